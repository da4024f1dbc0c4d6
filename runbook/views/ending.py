"""How a run ended, in words: what happened, how the world stands, what to do next."""

from __future__ import annotations

from runbook.errors import ExitCode
from runbook.model.state import RunPhase

_HEADS = {
    ExitCode.OK: "done",
    ExitCode.HELD: "held: it waits for a decision",
    ExitCode.IN_DOUBT: "held in doubt: something was started and its outcome is unknown",
    ExitCode.ROLLED_BACK: "rolled back: everything this run changed was put back and checked",
    ExitCode.NOT_RESTORED: "NOT fully restored",
    ExitCode.STOPPED: "stopped at a checkpoint",
    ExitCode.UNREACHABLE: "held: nothing further was begun",
}


def ending(phase: RunPhase, code: ExitCode, why: str, run_id: str) -> str:
    """Two to six lines of plain text."""
    lines = [f"run {run_id}: {_HEADS.get(code, str(phase))}"]
    if why:
        lines.append(f"  why: {why}")
    lines.extend(f"  next: {command}" for command in _next(code, run_id))
    return "\n".join(lines)


def _next(code: ExitCode, run_id: str) -> list[str]:
    if code in {ExitCode.OK, ExitCode.ROLLED_BACK}:
        return [f"runbook report {run_id}"]
    if code is ExitCode.IN_DOUBT:
        return [
            f"runbook status {run_id}   (which step, and what is known of it)",
            f"runbook resolve {run_id} STEP --done | --not-done   (after looking yourself)",
            f"runbook resume {run_id}   or   runbook rollback {run_id}",
        ]
    if code is ExitCode.NOT_RESTORED:
        return [
            f"runbook status {run_id}   (what is not as before, and why)",
            f"runbook rollback {run_id}   (tries those again, once the cause is mended)",
        ]
    if code is ExitCode.HELD:
        return [
            f"runbook resume {run_id}   (tries the failed step again)",
            f"runbook skip {run_id} STEP --why …   or   runbook rollback {run_id}",
        ]
    return [f"runbook resume {run_id}", f"runbook rollback {run_id}"]
