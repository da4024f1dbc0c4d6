"""What an outside client's record says about a move: outage, fallback pages, lost writes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Attempt(_Frozen):
    """One request of the outside client: a name resolved anew, a connection opened anew."""

    op: Literal["read", "write"]
    ok: bool
    """The page loaded; the write was acknowledged."""
    began: float
    """Real seconds (``CLOCK_MONOTONIC``)."""
    ended: float
    virtual_began: float
    """Unix seconds of the run's time."""
    virtual_ended: float
    status: int = 0
    """HTTP status; 0: no response."""
    id: str = ""
    """Identity of an acknowledged write."""
    fallback: bool = False
    """The page that loaded was the fallback page."""
    address: str = ""
    """Address of the plan's world that the name resolved to."""
    error: str = ""


class Outage(_Frozen):
    """Stretches in which attempts failed and none succeeded.

    ``real`` seconds run from the last success before to the first success after (or the end of
    the record), so they hold the client's own pause too and are never too small. ``virtual``
    seconds are the run's time, from the first *failed* attempt to the same end: the run's time
    may have raced before the stretch began, while somebody waited for a moment, and the last
    success would be hours away from it.
    """

    count: int = 0
    longest_real: float = 0.0
    total_real: float = 0.0
    longest_virtual: float = 0.0
    total_virtual: float = 0.0


class Judgement(_Frozen):
    """The verdict of the outside client on one run."""

    requests: int = 0
    errors: int = 0
    """Attempts that did not succeed."""
    writes_acknowledged: int = 0
    writes_lost: int | None = None
    """Acknowledged, and absent from the audit; None: no audit was made."""
    lost_ids: tuple[str, ...] = ()
    reads_loaded: int = 0
    reads_fallback: int = 0
    """Of those that loaded, how many showed the fallback page."""
    write_outage: Outage = Outage()
    read_outage: Outage = Outage()
    served_by: dict[str, int] = Field(default_factory=dict)
    """Successes by the address that gave them."""
    first_errors: tuple[str, ...] = ()
    """Different errors, in the order they first came, at most ten."""
    real_seconds: float = 0.0
    virtual_seconds: float = 0.0


def judge(records: Iterable[Attempt], audit_ids: Collection[str] | None) -> Judgement:
    """Judge the attempts of one run.

    ``audit_ids``: identities of the writes that the side in service holds afterwards; None
    where it was not asked. A write that was never acknowledged is not lost when it is absent.
    """
    attempts = sorted(records, key=lambda item: item.ended)
    if not attempts:
        return Judgement(writes_lost=None if audit_ids is None else 0)
    writes = [item for item in attempts if item.op == "write"]
    reads = [item for item in attempts if item.op == "read"]
    acknowledged = [item.id for item in writes if item.ok]
    kept = None if audit_ids is None else set(audit_ids)
    lost = () if kept is None else tuple(one for one in acknowledged if one not in kept)
    served: dict[str, int] = {}
    errors: dict[str, None] = {}
    for item in attempts:
        if item.ok:
            served[item.address] = served.get(item.address, 0) + 1
        else:
            errors.setdefault(f"{item.op}: {item.error or item.status}")
    return Judgement(
        requests=len(attempts),
        errors=sum(not item.ok for item in attempts),
        writes_acknowledged=len(acknowledged),
        writes_lost=None if kept is None else len(lost),
        lost_ids=lost,
        reads_loaded=sum(item.ok for item in reads),
        reads_fallback=sum(item.ok and item.fallback for item in reads),
        write_outage=outage(writes),
        read_outage=outage(reads),
        served_by=served,
        first_errors=tuple(errors)[:10],
        real_seconds=attempts[-1].ended - min(item.began for item in attempts),
        virtual_seconds=attempts[-1].virtual_ended
        - min(item.virtual_began for item in attempts),
    )


def outage(attempts: Sequence[Attempt]) -> Outage:
    """The outage in attempts of one sort, ordered by their end."""
    spans: list[tuple[float, float]] = []
    failed: list[Attempt] = []
    last: Attempt | None = None
    for item in attempts:
        if not item.ok:
            failed.append(item)
            continue
        if failed:
            spans.append(_span(last, failed, item))
        failed, last = [], item
    if failed:
        spans.append(_span(last, failed, failed[-1]))
    return Outage(
        count=len(spans),
        longest_real=max((real for real, _ in spans), default=0.0),
        total_real=sum(real for real, _ in spans),
        longest_virtual=max((virtual for _, virtual in spans), default=0.0),
        total_virtual=sum(virtual for _, virtual in spans),
    )


def _span(last: Attempt | None, failed: Sequence[Attempt], end: Attempt) -> tuple[float, float]:
    first = min(item.began for item in failed)
    virtual = min(item.virtual_began for item in failed)
    if last is not None:
        first, virtual = last.ended, max(virtual, last.virtual_ended)
    return max(0.0, end.ended - first), max(0.0, end.virtual_ended - virtual)
