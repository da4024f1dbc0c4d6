"""What was foretold against what came, and how good earlier predictions were. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from runbook.engine.simulate.prediction import Foretold, Quantiles
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState, RunPhase


class Came(BaseModel):
    """One number that was foretold, and what it came to.

    ``what``: the *end* (a moment), how long it *took* (where nothing is dated), or the *way back*
    from ``step``. ``inside``: between p5 and p95, which nine in ten should be; ``in_time``: no
    later or longer than p90, which nine in ten should be, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["end", "took", "way back"]
    step: str = ""
    foretold: Quantiles
    actual: float

    @property
    def inside(self) -> bool:
        return self.foretold.p05 <= self.actual <= self.foretold.p95

    @property
    def in_time(self) -> bool:
        return self.actual <= self.foretold.p90


class Calibration(BaseModel):
    """Of how many numbers how many lay inside their bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: int = 0
    inside: int = 0
    in_time: int = 0


def what_came(foretold: Foretold, state: RunState) -> tuple[Came, ...]:
    """The numbers of a prediction that a run has an answer to. One that was held, or stopped, or
    put back only in part, has none for where it did not get to."""
    found = []
    end = _forward_end(state)
    if end is not None and state.started_at is not None:
        found.append(
            Came(what="end", foretold=foretold.end, actual=end) if foretold.dated
            else Came(what="took", foretold=foretold.took, actual=end - state.started_at)
        )
    begun, over = state.rollback_started_at, state.ended_at
    if (
        begun is not None and over is not None and state.phase is RunPhase.ROLLED_BACK
        and state.rollback_to is None
    ):
        last = _last_begun(state, begun)
        if last in foretold.back_out:
            found.append(Came(what="way back", step=last, foretold=foretold.back_out[last],
                              actual=over - begun))
    return tuple(found)


def calibration(came: Iterable[Came]) -> Calibration:
    """How many held."""
    several = list(came)
    return Calibration(
        numbers=len(several), inside=sum(one.inside for one in several),
        in_time=sum(one.in_time for one in several),
    )


def _forward_end(state: RunState) -> float | None:
    """When the last step was done; None when not all were."""
    nodes = list(state.nodes.values())
    ends = [node.ended_at for node in nodes if node.ended_at is not None]
    return max(ends) if ends and all(map(_done, nodes)) else None


def _done(node: NodeStatus) -> bool:
    """Verified (it may have been taken back since) or left out."""
    return node.state is NodeState.SKIPPED or node.after is not None


def _last_begun(state: RunState, before: float) -> str:
    starts = {
        state.plan.nodes[node.node].step: node.started_at for node in state.nodes.values()
        if node.started_at is not None and node.started_at <= before
        and node.state is not NodeState.SKIPPED
    }
    return max(starts, key=lambda step: starts[step] or 0.0, default="")
