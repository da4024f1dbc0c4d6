"""The time of a run that somebody else drives, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.cli.wiring import read_endpoints, real_clock, run_clock
from runbook.errors import Refused
from runbook.model.runbook import REAL_LEVELS

if TYPE_CHECKING:
    from runbook.model.runstate import RunState


def time_of_run(state: RunState) -> float:
    """The run's time now: the system's, or that of its sandbox; when the sandbox is gone, the
    time of the run's last event. Unix seconds."""
    if not state.endpoints:
        return real_clock().now() if state.level in REAL_LEVELS else state.last_ts
    try:
        return run_clock(read_endpoints(state.endpoints)).now()
    except (Refused, OSError):
        return state.last_ts
