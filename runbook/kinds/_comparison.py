"""What ``postgres.compare`` and ``mysql.compare`` have in common: a check that is cut into many
looks, so that it can be slowed down, stopped, and taken up again where it was."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._compare import ENOUGH, Dialect, Found, Walk, in_words
from runbook.kinds._shared import CheckKind, Names
from runbook.model.database import Engine
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import DatabaseReads, Reads
from runbook.model.runbook import Poll

_A_LOOK = 1.0
"""Seconds one look takes, about: after each the journal knows how far it has come."""
_PATIENCE = 60.0
"""Seconds until the two sides have to be at the same position."""
_TIMES = 3
"""Times a comparison begins anew, because somebody wrote meanwhile."""
_TOLD = 3
"""Differences that are told; up to ENOUGH are in the journal."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether both sides stand still at one position. ``at``: which; None: they do not, and
    ``why``; ``wait``: they may soon."""

    at: dict[str, Any] | None = None
    why: str = ""
    wait: bool = False


class ComparisonKind(CheckKind):
    """Base: two sides that stand still are compared, a slice a look."""

    engine: ClassVar[Engine]
    estimate: ClassVar[float] = 30.0
    poll: ClassVar[Poll | None] = Poll(every=0.01, timeout=6 * 3600.0)
    output_names: ClassVar[dict[str, str]] = {
        "tables": "how many tables (for Redis: databases) were compared",
        "rows": "how many rows (for Redis: keys)",
        "at": "the position at which both sides were",
    }

    exclude: Names = Field(
        default=(), description="Tables that are left out; patterns, as in `tables`."
    )
    max_rate: float | None = Field(
        default=None, gt=0, description="Rows a second, at most. Not given: as fast as it goes."
    )

    @abstractmethod
    def sides(self) -> tuple[str, str]:
        """The server that is followed, and the one that follows."""

    @abstractmethod
    def standing(self, left: DatabaseReads, right: DatabaseReads) -> Standing:
        """Whether they can be compared now. Raises Errored, Refused."""

    @abstractmethod
    def walk(self, left: DatabaseReads, right: DatabaseReads, found: Found) -> Any:
        """A :class:`Walk` or the like of it."""

    def extra(self, walk: Any, left: DatabaseReads, right: DatabaseReads) -> list[dict[str, Any]]:
        """Differences besides those that the walk has found."""
        return []

    def beyond(self, left: DatabaseReads) -> list[str]:
        """Databases of the server that this connection does not see."""
        return []

    def databases(self) -> tuple[str, ...]:
        return self.sides()

    def observe(self, reads: Reads) -> Observation:
        kept = dict(reads.progress)
        if reads.now() < kept.get("not_before", 0.0):
            return self._unfinished(reads, kept)
        left, right = (reads.database(name) for name in self.sides())
        standing = self.standing(left, right)
        if standing.at is None:
            since = kept.get("waiting", reads.now())
            patient = standing.wait and reads.now() - since < _PATIENCE
            return Observation(
                evidence={"why": standing.why, "wait": patient}, at=reads.now(),
                progress={**kept, "waiting": since} if patient else {},
            )
        kept.pop("waiting", None)
        if kept.setdefault("at", standing.at) != standing.at:
            return self._anew(reads, kept)
        kept.setdefault("began", reads.now())
        found = Found.of(kept)
        walk = self.walk(left, right, found)
        began, rows = reads.now(), 0
        try:
            for more in walk.pieces():
                rows += more
                if reads.now() - began >= _A_LOOK or (self.max_rate and rows):
                    return self._unfinished(reads, self._kept(kept, walk, began, rows))
        finally:
            walk.close()
        if self.standing(left, right).at != standing.at:
            return self._anew(reads, kept)
        found.differences += self.extra(walk, left, right)
        evidence = {"done": True, "found": found.json(), "tables": len(walk.tables),
                    "at": standing.at, "took": reads.now() - kept["began"],
                    "database": left.database.database, "beyond": self.beyond(left)}
        return Observation(evidence=evidence, at=reads.now())

    def _kept(self, kept: dict[str, Any], walk: Any, began: float, rows: int) -> dict[str, Any]:
        pause = rows / self.max_rate if self.max_rate else 0.0
        return {**kept, "found": walk.found.json(), "not_before": began + pause,
                "tables": len(walk.tables), "left": walk.left}

    def _anew(self, reads: Reads, kept: dict[str, Any]) -> Observation:
        """Somebody has written since: what was compared before says nothing any more."""
        times = kept.get("anew", 0) + 1
        left, right = self.sides()
        why = f"{left} and {right} did not stand still while they were compared"
        if times > _TIMES:
            return Observation(evidence={"why": f"{why}, {times} times", "wait": False},
                               at=reads.now())
        return Observation(evidence={"why": f"{why}: it begins anew", "wait": True},
                           progress={"anew": times}, at=reads.now())

    def _unfinished(self, reads: Reads, kept: dict[str, Any]) -> Observation:
        return Observation(evidence={"kept": kept}, progress=kept, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen = after.evidence
        if "why" in seen:
            return Verdict(ok=False, seen=seen["why"], retry=seen["wait"])
        if not seen.get("done"):
            return Verdict(ok=False, seen=self._so_far(seen.get("kept", {})))
        return self._result(seen)

    def _so_far(self, kept: dict[str, Any]) -> str:
        found = Found.of(kept)
        return (f"compared {found.rows:,} rows, {kept.get('left', '?')} of "
                f"{kept.get('tables', '?')} tables left, {found.differing} ranges differ so far")

    def _result(self, seen: dict[str, Any]) -> Verdict:
        found = Found(**seen["found"])
        left, right = self.sides()
        outputs = {"tables": seen["tables"], "rows": found.rows, "at": seen["at"]}
        size = f"{found.rows:,} rows in {seen['tables']} {self.unit}"
        beyond = f"; not compared: {', '.join(seen['beyond'])}" if seen["beyond"] else ""
        if not found.differences and not seen["tables"]:
            where = f"its database {seen['database']}" if seen["database"] else (
                "the default database, as `databases:` names none"
            )
            return Verdict(ok=False, retry=False, outputs=outputs, seen=f"nothing was compared: "
                           f"{left} shows no table in {where}{beyond}. Name its `database:`, let "
                           "its user SELECT, or `exclude` less")
        if not found.differences:
            return Verdict(ok=True, outputs=outputs, seen=f"{left} and {right} are the same: "
                           f"{size}, at {self._place(seen['at'])}{beyond}")
        told = "; ".join(in_words(one, left, right) for one in found.differences[:_TOLD])
        rest = len(found.differences) - _TOLD
        more = f"; and {rest} more" if rest > 0 else ""
        if found.differing >= ENOUGH:
            more += "; what comes after was not looked at"
        return Verdict(ok=False, retry=False, outputs=outputs,
                       seen=f"{left} and {right} are not the same ({size}): {told}{more}{beyond}")

    unit: ClassVar[str] = "tables"

    @staticmethod
    def _place(at: dict[str, Any]) -> str:
        return ", ".join(str(value) for value in at.values())


class TableComparison(ComparisonKind):
    """Base of those that compare tables."""

    dialect: ClassVar[Dialect]

    tables: Names = Field(
        default=(), description="Tables to compare: names or patterns like `shop.*`, with or "
        "without the schema. Not given: all of them."
    )
    chunk: int = Field(
        default=10_000, ge=1, description="Rows that are compared at once, by ranges of the key."
    )

    def walk(self, left: DatabaseReads, right: DatabaseReads, found: Found) -> Walk:
        return Walk(
            self.dialect, left, right, found, only=self.tables, exclude=self.exclude,
            size=self.chunk,
        )
