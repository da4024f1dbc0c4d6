"""The kind ``gate.approve``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.kinds._shared import Names
from runbook.model.actions import Action, AskOperator
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class GateApprove(Kind):
    """Stop until enough people have said go.

    The question is shown to everybody who follows the run, and answered from any terminal with
    `runbook approve` or `runbook reject`. Who answered, in which role, when and why is
    journaled; one person counts once, and a no is a no. While it asks it cannot be skipped.
    """

    name: ClassVar[str] = "gate.approve"
    by_keys: ClassVar[bool] = True
    asks: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 60.0
    estimate_undo: ClassVar[float | None] = 0.0
    example: ClassVar[str] = """\
- id: go
  kind: gate.approve
  with:
    question: Is everybody ready for the freeze?
    roles: [lead, dba]
    quorum: 2
"""

    question: str = Field(default="Go on?", min_length=1, description="What is to be decided.")
    roles: Names = Field(
        default=(),
        description="Roles of which each must have answered at least once; empty: anybody.",
    )
    quorum: int = Field(default=1, ge=1, description="How many people must have said yes.")
    evidence: bool = Field(
        default=False, description="Every answer must say what the person saw."
    )

    def observe(self, reads: Reads) -> Observation:
        return Observation(at=reads.now())

    def plan(self, before: Observation) -> Planned:
        return Planned(
            actions=(
                AskOperator(
                    question=self.question, roles=self.roles, quorum=self.quorum,
                    evidence=self.evidence,
                ),
            )
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        # Reached only after the question was answered with yes by all that are needed.
        return Verdict(ok=True, seen="approved")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: it only asked."""
        return ()

    def preview(self) -> tuple[str, ...]:
        who = f"{self.quorum} person{'s' if self.quorum > 1 else ''}"
        roles = f", with roles {', '.join(self.roles)}" if self.roles else ""
        return (f"ask {who}{roles}: {self.question}",)
