"""``runbook reject``: say no to a question of a run from any terminal."""

from __future__ import annotations

from runbook.cli.options import RunRequired, State, Step, Why


def command(run: RunRequired, step: Step, why: Why = "", state: State = None) -> None:
    from runbook.cli.answer import say

    say(run, "reject", step=step, state=state, only_asked=True, data={"why": why})
