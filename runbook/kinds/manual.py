"""The kind ``manual``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from runbook.kinds._shared import Command, Names, holds, indented, seen
from runbook.model.actions import Action, AskOperator
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class Manual(Kind):
    """Ask a person to do something, and check that it was done.

    For what no program may do: a phone call, a cable, a form of a provider. With `check`, a
    read-only command decides, not the person's word: where it holds already nobody is asked, and
    after the answer it must hold. With `evidence` the answer has to say what was seen.

    While it asks, `runbook skip` leaves it out, unless `roles` or `evidence` say how it has to be
    answered.
    """

    name: ClassVar[str] = "manual"
    by_keys: ClassVar[bool] = True
    asks: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    estimate: ClassVar[float] = 300.0
    example: ClassVar[str] = """\
- id: carrier
  kind: manual
  with:
    instructions: Call the carrier and have the announcement moved to the west.
    evidence: true
    back_out: Call the carrier and have the announcement moved back to the east.
"""

    instructions: str = Field(min_length=1, description="What the person shall do.")
    evidence: bool = Field(default=False, description="The answer must say what was seen.")
    roles: Names = Field(
        default=(), description="Roles of which each must have answered; empty: anybody."
    )
    done_when: Command | None = Field(
        default=None, alias="check",
        description="Read-only command that exits with 0 once it is done.",
    )
    back_out: str | None = Field(
        default=None, description="What a person shall do to take it back."
    )

    def observe(self, reads: Reads) -> Observation:
        if self.done_when is None:
            return Observation(at=reads.now())
        held, result = holds(reads.here, self.done_when)
        return Observation(
            state={"done": held}, evidence={"check": seen(result)}, at=reads.now()
        )

    def plan(self, before: Observation) -> Planned:
        if before.state.get("done"):
            return Planned(reason=f"already done: `{self.done_when}` holds")
        return Planned(actions=(self._ask(self.instructions),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if self.done_when is None:
            return Verdict(ok=True, seen="a person said that it is done")
        if after.state.get("done"):
            return Verdict(ok=True, seen=f"`{self.done_when}` holds")
        return Verdict(ok=False, seen=f"`{self.done_when}` gave {after.evidence.get('check')}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """By a person again, with the text of `back_out`; without one it cannot be undone."""
        if before.state.get("done"):
            return ()
        if self.back_out is None:
            return Irreversible(
                why="a person did it, and no `back_out` text says how to undo it", missing=True
            )
        return (self._ask(f"Please undo: {self.back_out}"),)

    def preview(self) -> tuple[str, ...]:
        return ("ask a person:", *indented(self.instructions))

    def _ask(self, text: str) -> AskOperator:
        return AskOperator(question=text, roles=self.roles, evidence=self.evidence,
                           errand=not self.roles and not self.evidence)
