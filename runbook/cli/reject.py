"""``runbook reject``: answer a question of a run from any terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import RunRequired, State, Step, Why


def command(
    run: RunRequired,
    step: Step,
    role: Annotated[str, typer.Option("--role", help="The role you answer in.")] = "",
    evidence: Annotated[
        str, typer.Option("--evidence", help="What you saw; some questions demand it.")
    ] = "",
    why: Why = "",
    state: State = None,
) -> None:
    from runbook.cli.answer import say

    say(run, "reject", step=step, state=state, only_asked=True,
        data={"role": role, "evidence": evidence, "why": why})
