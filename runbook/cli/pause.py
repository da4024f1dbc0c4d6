"""``runbook pause``: nothing new is started until ``runbook continue``."""

from __future__ import annotations

from runbook.cli.options import RunRequired, State, Why


def command(run: RunRequired, why: Why = "", state: State = None) -> None:
    from runbook.cli.answer import say

    say(run, "pause", state=state, data={"why": why})
