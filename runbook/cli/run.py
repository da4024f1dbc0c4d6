"""``runbook run``: run a runbook for real."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runbook.cli.options import Plain, RunbookFile, State, Vars


def command(
    file: RunbookFile,
    var: Vars = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="STEP", help="Leave a step out; the plan's digest changes."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    world: Annotated[
        str,
        typer.Option(
            "--world", metavar="FILE", envvar="RUNBOOK_WORLD",
            help="Run inside a sandbox: the endpoints file of one that is up.",
        ),
    ] = "",
    another: Annotated[
        bool,
        typer.Option("--another", help="Start although an earlier live run of this runbook is not "
                     "finished; what that one did is done a second time."),
    ] = False,
    plain: Plain = False,
    state: State = None,
) -> None:
    from runbook.cli import wiring
    from runbook.cli.plan import looked_ahead
    from runbook.cli.session import finish, shown, start
    from runbook.engine.another import check_no_other
    from runbook.engine.begin import check_policy
    from runbook.errors import Refused
    from runbook.planning import without
    from runbook.views.asking import question

    plan = without(wiring.load_plan(file, var or []), leave_out or [])
    store = wiring.open_state(state)
    if not world:
        if not another:
            check_no_other(store, plan)
        for warning in check_policy(
            plan, store.rehearsals(), now=wiring.real_clock().now(), file=str(file)
        ):
            typer.echo(f"warning: {warning}", err=True)
        if not yes and not sys.stdin.isatty():
            raise Refused("a live run asks before it starts, and there is no terminal to ask at",
                          hint="say --yes; nothing was started")
        if not yes:
            now = wiring.real_clock().now()
            timeline, _ = looked_ahead(plan, begun=now)
            if not typer.confirm(question(plan, timeline, now=now)):
                raise Refused("not started; nothing was touched")
            if not another:
                check_no_other(store, plan)
    run_id, driven = start(
        plan, store, level="sandbox" if world else "live", endpoints_file=world, show=shown(plain)
    )
    finish(driven, run_id)
