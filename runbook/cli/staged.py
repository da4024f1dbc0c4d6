"""``runbook rehearse --level staging``: the whole move, on real machines that are not production's.

It is a run as a live one: in its own journal, resumed, answered and taken back by the same
commands. Before anything is started, both inventories are found out and held against each other;
see :mod:`runbook.engine.apart`. It is recorded under the digest of the plan that is to run live.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer

from runbook.cli import coverage, wiring
from runbook.cli.answer import load_state
from runbook.cli.levels import probe_world
from runbook.cli.recorded import record
from runbook.cli.session import Order, Show, start, take_up
from runbook.cli.stages import OneStaging
from runbook.cli.staging import by_hand, compared, keep_production
from runbook.engine.apart import Apart, refuse_touching
from runbook.engine.driver import Driven
from runbook.engine.faults import MADE_UP
from runbook.engine.rollback import past_return
from runbook.engine.standing import standing
from runbook.errors import ExitCode, Refused
from runbook.journal import Store
from runbook.model.faults import Fault
from runbook.model.plan import Plan
from runbook.model.runbook import Moved
from runbook.model.state import RunPhase
from runbook.sandbox.handle import first_moment
from runbook.views.ending import ending
from runbook.views.rehearsal import show_staged


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    file: Path
    variables: list[str]
    fail: tuple[str, ...]
    invert: bool
    back: bool
    """Take it back when it is done."""
    real_time: bool
    """Dates stay as far from each other as they are."""
    yes: bool
    """Ask nobody anything."""
    plain: bool
    as_json: bool
    cover: coverage.Wanted | None = None
    """Rollback coverage in place of one move."""

    @property
    def show(self) -> Show:
        if self.as_json:
            return Show.NOTHING
        return Show.PLAIN if self.plain else Show.LIVE

    @property
    def attended(self) -> bool:
        """Whether people answer its questions."""
        return not self.yes and not self.as_json and sys.stdin.isatty()


def staged(state: Path | None, wanted: Wanted) -> NoReturn:
    """Compare, play, record, show. Raises InvalidInput, and Refused: nothing was started then."""
    book = wiring.load_book(wanted.file, wanted.variables)
    production = wiring.plan_of(book)
    plan = wiring.load_staging(wanted.file, wanted.variables, invert=wanted.invert)
    _check_faults(plan, wanted, allowed=book.staging is not None and book.staging.faults)
    moved = wiring.load_staging(
        wanted.file, wanted.variables, invert=wanted.invert,
        moved=_moved(plan, wiring.real_clock().now(), keep=wanted.real_time),
    )
    store = wiring.open_state(state)
    apart = compared(production, moved, store.directory)
    refuse_touching(apart)
    _ask(moved, apart, wanted)
    if wanted.cover is not None:
        coverage.covered(moved, store, OneStaging(
            moved, look=lambda: standing(probe_world(moved, store)),
            keep=lambda run_id: keep_production(store, run_id, production),
        ), wanted.cover, rehearsed=production)
    wiring.check_secrets(moved)
    run_id = store.create(moved, who=wiring.person(), now=wiring.real_clock().now(),
                          level="staging")
    keep_production(store, run_id, production)
    _, driven = start(
        moved, store, level="staging", show=wanted.show, run_id=run_id,
        faults=[Fault(kind="fail", step=step) for step in wanted.fail],
        attended=wanted.attended,
    )
    there = driven
    if _goes_back(store, run_id, driven, wanted):
        driven = _take_back(store, run_id, wanted)
    if driven.exit_code is ExitCode.STOPPED:
        typer.echo(ending(driven.phase, driven.exit_code, driven.why, run_id), err=wanted.as_json)
        raise typer.Exit(int(driven.exit_code))
    decided = by_hand(load_state(store, run_id))
    ok = _went_well(store, run_id, there, driven, wanted) and not decided
    data: dict[str, Any] = {
        "phase": str(driven.phase), "failed_on_purpose": list(wanted.fail),
        "staging_digest": plan.digest, "inverted": wanted.invert, "back": wanted.back,
        "by_hand": list(decided), "apart": apart.as_json(),
    }
    record(store, production, "staging", run_id, ok, data)
    show_staged(
        run_id, driven, ok=ok, digest=production.digest, data=data, as_json=wanted.as_json
    )
    if not wanted.as_json:
        typer.echo(ending(driven.phase, driven.exit_code, driven.why, run_id))
        if driven.phase is RunPhase.DONE:
            other = book.staging is not None and book.staging.invert is not None
            turn = ", or rehearse the other direction next: --invert" if other else ""
            typer.echo(f"  staging is as after the move: runbook rollback {run_id}{turn}")
    raise typer.Exit(int(ExitCode.OK if ok else ExitCode.REHEARSAL_FAILED))


def _check_faults(plan: Plan, wanted: Wanted, *, allowed: bool) -> None:
    """Raises Refused where nobody said that faults may be made there; NotFound,
    BadParameter."""
    wiring.check_steps(plan, wanted.fail)
    if wanted.cover is not None:
        coverage.checked(plan, wanted.cover)
    if (wanted.fail or wanted.cover is not None) and not allowed:
        raise Refused(
            f"{wanted.file.name} does not allow faults in staging",
            hint="say `faults: true` under `staging:`, or play them with --level sandbox; "
            "nothing was started",
        )


def _moved(plan: Plan, now: float, *, keep: bool) -> Moved:
    """``keep``: the first date is now, and the others are as far behind it as they were. Else the
    window opens now, and no date is waited for."""
    if keep:
        return Moved(by=now - first_moment(plan), waited_for=True)
    return Moved(by=now - plan.window.start if plan.window is not None else 0.0, waited_for=False)


def _ask(plan: Plan, apart: Apart, wanted: Wanted) -> None:
    """Raises Refused."""
    if not wanted.as_json:
        shared = f"; shared, only as a way: {', '.join(apart.shared)}" if apart.shared else ""
        typer.echo(
            f"Staging is apart from production: {_count(apart.hosts, 'host')} by address and host "
            f"key, {_count(apart.zones, 'zone')}, {_count(apart.databases, 'database')}{shared}."
        )
    if wanted.yes:
        return
    if not wanted.attended:
        raise Refused(
            "a rehearsal in staging asks before it starts, and there is nobody to ask",
            hint="say --yes: it asks nothing then and answers its gates itself; nothing was "
            "started",
        )
    nodes = sum(len(step.nodes) for step in plan.steps)
    if not typer.confirm(
        f"{plan.title or plan.runbook}: {len(plan.steps)} steps, {nodes} nodes, for real, on the "
        f"hosts of staging ({', '.join(host.name for host in plan.inventory.hosts[:6])}"
        f"{', …' if len(plan.inventory.hosts) > 6 else ''}). Start?"
    ):
        raise Refused("not started; nothing was touched")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _goes_back(store: Store, run_id: str, driven: Driven, wanted: Wanted) -> bool:
    """Whether the rehearsal orders the way back, as a person would."""
    if driven.phase is RunPhase.DONE:
        return wanted.back
    return driven.phase is RunPhase.HELD and _struck(store, run_id)


def _take_back(store: Store, run_id: str, wanted: Wanted) -> Driven:
    loss = [step.id for step in past_return(load_state(store, run_id), None)]
    order = Order("rollback", {
        "why": "the way back is rehearsed", "to": None, "accept_loss": loss, "accept_drift": [],
    })
    return take_up(store, run_id, show=wanted.show, order=order, attended=wanted.attended)


def _struck(store: Store, run_id: str) -> bool:
    """Whether a step was made to fail."""
    return any(
        event.kind == "failed" and event.data.get("error") == MADE_UP
        for event in store.events(run_id)
    )


def _went_well(
    store: Store, run_id: str, there: Driven, driven: Driven, wanted: Wanted
) -> bool:
    if wanted.fail:
        return driven.exit_code is ExitCode.ROLLED_BACK and _struck(store, run_id)
    if wanted.back:
        return (there.exit_code is ExitCode.OK
                and driven.exit_code is ExitCode.ROLLED_BACK)
    return driven.exit_code is ExitCode.OK
