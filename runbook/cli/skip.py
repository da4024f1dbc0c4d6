"""``runbook skip``: leave a step out, with a reason."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Outputs, RunRequired, State, Step


def command(
    run: RunRequired,
    step: Step,
    why: Annotated[
        str, typer.Option("--why", "-m", help="The reason; it is journaled. Needed.")
    ] = "",
    output: Outputs = None,
    state: State = None,
) -> None:
    from runbook.cli.answer import outputs_given, say
    from runbook.errors import Refused

    if not why.strip():
        raise Refused("leaving a step out wants a reason",
                      hint="say it with --why; nothing was changed")
    given = outputs_given(run, step, output or [], state=state, observed=False)
    say(run, "skip", step=step, state=state, data={"why": why, "outputs": given})
