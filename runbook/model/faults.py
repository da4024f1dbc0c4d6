"""Faults that a rehearsal makes happen on purpose: about steps, the same at every level."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """One thing that goes wrong in one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["fail", "kill", "cut", "slow"]
    step: str = ""
    """The step it strikes, on every host of it; empty for ``slow``, which strikes all."""
    moment: Literal["intent", "effect", "undo"] = "effect"
    """Of ``kill``: right after the intent is durable and before anything is done; right after
    the step took effect and before the journal knows of it; or, on the way back, right after its
    undo took effect and before the journal knows."""
    factor: float = Field(default=1.0, ge=1)
    """Of ``slow``: how many times as long everything outside takes."""

    @property
    def words(self) -> str:
        if self.kind == "fail":
            return f"{self.step} is made to fail right after it took effect"
        if self.kind == "kill":
            return f"the controller is killed after the {self.moment} of {self.step}"
        if self.kind == "cut":
            return f"SSH is cut while {self.step} is at work"
        return f"everything outside is {self.factor:g} times as slow"
