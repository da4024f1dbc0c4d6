"""``runbook amend``: change what a run has not begun yet, by an edited runbook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from runbook.cli.options import Json, RunbookFile, RunRequired, State, Vars

if TYPE_CHECKING:
    from runbook.journal import Store
    from runbook.model.plan import Plan
    from runbook.model.runstate import RunState


def command(
    run: RunRequired,
    file: RunbookFile,
    why: Annotated[
        str, typer.Option("--why", "-m", help="The reason; it is journaled. Needed.")
    ] = "",
    var: Vars = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="STEP", help="Leave a step out, as `run --skip` does."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only show the difference, and what may not change "
                           "(exit code 11).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    state: State = None,
) -> None:
    from runbook.cli import wiring
    from runbook.cli.answer import load_state
    from runbook.engine.amend import amended, changes, check_may_amend
    from runbook.errors import ExitCode, Refused
    from runbook.planning import without
    from runbook.views.amend import show_changes

    new = without(wiring.load_plan(file, var or []), leave_out or [])
    store = wiring.open_state(state, must_exist=True)
    run_id = wiring.find_run(store, run)
    before = load_state(store, run_id)
    check_may_amend(before)
    found = changes(before, new)
    show_changes(before, new, found, as_json=json)
    if diff:
        if any(change.refused for change in found):
            raise typer.Exit(int(ExitCode.REFUSED))
        return
    if not found:
        raise Refused("the plan is the same as the run's; nothing was changed")
    if not why:
        raise Refused("an amendment wants a reason", hint="say it with --why; nothing was changed")
    amended(before, new, found, who="", why=why)  # Refused before anybody is asked.
    if not yes:
        _ask(before, new)
    _append(store, before, new, why=why)
    _warn_unrehearsed(store, before, new)
    if not json:
        typer.echo(f"run {run_id} is amended: {before.plan.digest[:12]} → {new.digest[:12]}. "
                   f"Go on with: runbook resume {run_id}")


def _ask(before: RunState, new: Plan) -> None:
    from runbook.errors import Refused

    if not sys.stdin.isatty():
        raise Refused("an amendment asks first, and there is no terminal to ask at",
                      hint="say --yes; nothing was changed")
    if not typer.confirm(f"Amend run {before.run_id} ({before.level}) so?"):
        raise Refused("not amended; nothing was changed")


def _append(store: Store, before: RunState, new: Plan, *, why: str) -> None:
    """Under the run's lease, and by the journal as it is then. Raises HeldByOther."""
    from runbook.cli import wiring
    from runbook.cli.answer import load_state
    from runbook.cli.clocks import time_of_run
    from runbook.engine.amend import amended, changes, check_may_amend

    lease = store.acquire(before.run_id, wiring.controller())
    try:
        state = load_state(store, before.run_id)
        check_may_amend(state)
        event = amended(state, new, changes(state, new), who=wiring.person(), why=why)
        lease.append([event], ts=time_of_run(state))
    finally:
        lease.release()


def _warn_unrehearsed(store: Store, before: RunState, new: Plan) -> None:
    required = new.policy.rehearsal.required
    if before.level != "live" or required is None:
        return
    if not any(r.ok for r in store.rehearsals(new.digest)):
        typer.echo(f"warning: the amended plan ({new.digest[:12]}) was never rehearsed, and the "
                   f"policy wants {required}", err=True)
