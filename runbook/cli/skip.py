"""``runbook skip``: leave a step out, with a reason."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import RunRequired, State, Step, Why


def command(
    run: RunRequired,
    step: Step,
    why: Why = "",
    output: Annotated[
        list[str] | None,
        typer.Option("--output", metavar="NAME=VALUE",
                     help="An output that later steps need from the skipped one."),
    ] = None,
    state: State = None,
) -> None:
    from runbook.cli.answer import load_state, say
    from runbook.cli.wiring import find_run, open_state, parse_vars
    from runbook.errors import Refused
    from runbook.templating.needed import outputs_needed

    given = parse_vars(output or [])
    store = open_state(state, must_exist=True)
    plan = load_state(store, find_run(store, run)).plan
    missing = sorted(outputs_needed(plan, step.partition("@")[0]) - set(given))
    if missing:
        raise Refused(
            f"later steps need outputs of {step}: {', '.join(missing)}",
            hint="give each of them: " + " ".join(f"--output {name}=VALUE" for name in missing),
        )
    say(run, "skip", step=step, state=state, data={"why": why, "outputs": given})
