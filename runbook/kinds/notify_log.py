"""The kind ``notify.log``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from runbook.model.actions import Action, Notify
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class NotifyLog(Kind):
    """Tell everybody who follows the run something, and keep it in the journal.

    It can never fail a step.
    """

    name: ClassVar[str] = "notify.log"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.1
    estimate_undo: ClassVar[float | None] = 0.0
    example: ClassVar[str] = """\
- id: say-frozen
  kind: notify.log
  with: {message: "The shop takes no orders from now on.", severity: warning}
"""

    message: str = Field(min_length=1, description="What to tell.")
    channel: str = Field(default="log", min_length=1, description="Where to tell it.")
    severity: Literal["info", "warning", "critical"] = Field(
        default="info", description="How grave it is."
    )

    def observe(self, reads: Reads) -> Observation:
        return Observation(at=reads.now())

    def plan(self, before: Observation) -> Planned:
        return Planned(
            actions=(
                Notify(channel=self.channel, message=self.message, severity=self.severity),
            )
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen=self.message)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: what was said was said."""
        return ()

    def preview(self) -> tuple[str, ...]:
        return (f"{self.severity}: {self.message}",)
