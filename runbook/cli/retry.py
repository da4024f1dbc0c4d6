"""``runbook retry``: try a failed step again."""

from __future__ import annotations

from runbook.cli.options import RunRequired, State, Step, Why


def command(run: RunRequired, step: Step, why: Why = "", state: State = None) -> None:
    from runbook.cli.answer import say

    say(run, "retry", step=step, state=state, data={"why": why})
