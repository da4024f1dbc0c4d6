"""The kind ``wait``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from runbook.kinds._shared import Duration
from runbook.model.actions import Action, WaitFor
from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.model.moment import FIRST_YEAR, LAST_YEAR, check_moment
from runbook.model.observation import Irreversible, Observation, Pause, Planned, Verdict
from runbook.model.ports import Reads

_LEAST = 1e9
"""Unix seconds of September 2001: a smaller number was meant as a year, or as a duration."""


def _moment(value: object) -> float:
    if isinstance(value, datetime):
        found = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return _unix(value)
    else:
        text = str(value).strip()
        try:
            seconds = float(text)
        except ValueError:
            pass
        else:
            return _unix(seconds)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is not a moment; write it like 2009-09-12T03:00:00-04:00"
            ) from None
    if found.tzinfo is None:
        raise ValueError(
            "the moment has no offset from UTC; write it like 2009-09-12T03:00:00-04:00"
        )
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError(f"moments are of the years {FIRST_YEAR} to {LAST_YEAR}")
    return check_moment(found.timestamp())


def _unix(number: float) -> float:
    if number < _LEAST:
        raise ValueError(
            f"{number:g} as Unix seconds is long past; write the moment like "
            "2009-09-12T03:00:00-04:00, or a duration as `for`"
        )
    return float(check_moment(number))


Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema({"type": ["string", "number"], "format": "date-time"}),
]


class Wait(Kind):
    """Wait for a time, or until a moment.

    The end of the wait is fixed when it begins and kept in the journal: after a crash, or a
    controller that was stopped for a while, only what is left of it is waited. `runbook skip` ends
    it before its time. To wait for a condition use `poll`; for caches use `dns.wait_ttl`; to start
    a step at a moment of the window use the step's own `at:`.
    """

    name: ClassVar[str] = "wait"
    by_keys: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    estimate_undo: ClassVar[float | None] = 0.0
    example: ClassVar[str] = """\
- id: soak
  kind: wait
  with: {for: 15m}
  estimate: 15m
"""

    duration: Duration | None = Field(
        default=None, alias="for", description="How long, from the start of the step."
    )
    until: Moment | None = Field(
        default=None,
        description="Until when: ISO 8601 with an offset from UTC, or Unix seconds (1e9 and more).",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.duration is None) == (self.until is None):
            raise ValueError("give either `for` or `until`")
        return self

    def observe(self, reads: Reads) -> Observation:
        return Observation(at=reads.now())

    def plan(self, before: Observation) -> Planned:
        end = self._end(before)
        if end <= before.at:
            return Planned(reason=f"already past: {_when(end)}")
        left = format_duration(end - before.at)
        return Planned(
            actions=(WaitFor(until=end, why=f"{_when(before.at)} + {left} = {_when(end)}"),)
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        end = self._end(before)
        if after.at >= end:
            return Verdict(ok=True, seen=f"waited until {_when(end)}")
        return Verdict(
            ok=False, seen=f"{format_duration(end - after.at)} are left until {_when(end)}"
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: it only waited."""
        return ()

    def estimated(self) -> float:
        return self.estimate if self.duration is None else self.duration

    def pause(self) -> Pause:
        return Pause(seconds=self.duration or 0.0, until=self.until)

    def preview(self) -> tuple[str, ...]:
        if self.until is not None:
            return (f"wait until {_when(self.until)}",)
        return (f"wait for {format_duration(self.duration or 0.0)}",)

    def _end(self, before: Observation) -> float:
        return self.until if self.until is not None else before.at + (self.duration or 0.0)


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
