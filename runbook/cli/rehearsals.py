"""``runbook rehearsals``: what was rehearsed, when, by whom, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runbook.cli.options import Json, State, Vars


def command(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", exists=True, dir_okay=False,
                       help="A runbook: which of its rehearsals count for it as it is now. Exit "
                       "code 11 where they are not enough for a live run."),
    ] = None,
    var: Vars = None,
    json: Json = False,
    state: State = None,
) -> None:
    from runbook.cli import wiring
    from runbook.errors import ExitCode
    from runbook.views.rehearsals import enough, rehearsals_data, show_rehearsals

    plan = wiring.load_plan(file, var or []) if file is not None else None
    store = wiring.open_state(state, must_exist=True)
    found = store.rehearsals()
    named = str(file or "FILE")
    now = wiring.real_clock().now()
    if plan is not None:
        found = [r for r in found if r.plan_digest == plan.digest
                 or r.data.get("runbook") == plan.runbook]
    if json:
        from json import dumps

        data = rehearsals_data(found, plan, now=now, file=named)
        typer.echo(dumps(data, ensure_ascii=False, indent=2))
    else:
        show_rehearsals(found, plan, now=now, file=named)
    if plan is not None and not enough(found, plan, now=now):
        raise typer.Exit(int(ExitCode.REFUSED))
