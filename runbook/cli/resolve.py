"""``runbook resolve``: say what became of a step in doubt, after looking at it."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import RunRequired, State, Step, Why


def command(
    run: RunRequired,
    step: Step,
    done: Annotated[
        bool, typer.Option("--done/--not-done", help="It took effect, or it did not.")
    ],
    why: Why = "",
    state: State = None,
) -> None:
    from runbook.cli.answer import say

    say(run, "resolve", step=step, state=state,
        data={"outcome": "done" if done else "not_done", "why": why})
