"""``runbook rollback``: take everything back, or back to a step."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runbook.cli.options import Json, Plain, RunRequired, State, Why
from runbook.errors import Refused


def command(
    run: RunRequired,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="STEP", help="Keep this step and all before it."),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only show what would be undone, in order.")
    ] = False,
    accept_loss: Annotated[
        list[str] | None,
        typer.Option("--accept-loss", metavar="STEP",
                     help="Go back over this step although it loses what was shown, or past this "
                     "point of no return."),
    ] = None,
    accept_drift: Annotated[
        list[str] | None,
        typer.Option("--accept-drift", metavar="STEP",
                     help="Undo this step although its present state is not what it left."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a finished run is taken back.")
    ] = False,
    why: Why = "",
    json: Json = False,
    plain: Plain = False,
    state: State = None,
) -> None:
    from runbook.cli import wiring
    from runbook.cli.answer import load_state, nodes_of
    from runbook.cli.session import Order, finish, shown, take_up
    from runbook.model.state import RunPhase
    from runbook.views.back import show_rollback_plan

    store = wiring.open_state(state, must_exist=True)
    run_id = wiring.find_run(store, run)
    if plan_only:
        folded = load_state(store, run_id)
        known = wiring.reckoning(store, folded.plan, level=folded.level, leave_out=run_id)
        show_rollback_plan(folded, to, as_json=json, reckoning=known)
        return
    if to is not None:
        nodes_of(load_state(store, run_id), to)  # NotFound for a step the run does not have.
    data = {"why": why, "to": to, "accept_loss": accept_loss or [],
            "accept_drift": accept_drift or []}
    holder = store.holder(run_id)
    if holder is not None:
        store.post(run_id, "rollback", who=wiring.person(), now=wiring.real_clock().now(),
                   data=data)
        typer.echo(f"told run {run_id}, held by {holder}, to go back; watch it: "
                   f"runbook status {run_id} --watch")
        return
    if load_state(store, run_id).phase is RunPhase.DONE and not yes:
        _ask(run_id)
    finish(take_up(store, run_id, show=shown(plain), order=Order("rollback", data)), run_id)


def _ask(run_id: str) -> None:
    if not sys.stdin.isatty():
        raise Refused("taking a finished run back asks first, and there is no terminal to ask at",
                      hint="say --yes; nothing was changed")
    if not typer.confirm(f"Run {run_id} is done. Take it back?"):
        raise Refused("not taken back; nothing was changed")
