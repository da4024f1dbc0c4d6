"""Puts the parts together: the only place that builds transports and stores."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runbook.errors import Errored, NotFound, Refused

if TYPE_CHECKING:
    from runbook.engine.history import Reckoning
    from runbook.journal import Store
    from runbook.loading import ForStaging
    from runbook.model.endpoints import Endpoints
    from runbook.model.kind import Kind
    from runbook.model.plan import Plan
    from runbook.model.ports import Clock
    from runbook.model.runbook import Moved, Runbook
    from runbook.transports.whereabouts import PlanWhereabouts
    from runbook.transports.world import TransportWorld

STAGING = "in staging"
"""How errors begin that are about a runbook as it is rehearsed there."""


def state_dir(option: Path | None) -> Path:
    """The state folder: ``--state``, else ``$RUNBOOK_STATE``, else ``.runbook`` here."""
    if option is not None:
        return option.absolute()
    return Path(os.environ.get("RUNBOOK_STATE") or ".runbook").absolute()


def open_state(option: Path | None, *, must_exist: bool = False) -> Store:
    """The store of the state folder. Raises NotFound when it must be there and is not."""
    from runbook.journal import open_store

    directory = state_dir(option)
    try:
        missing, why = must_exist and not (directory / "journal.db").exists(), ""
    except OSError as fault:
        missing, why = True, f" ({fault.strerror})"
    if missing:
        raise NotFound(
            f"there is no state folder at {directory}{why}",
            hint="go to the folder the run was started in, or name its state with --state",
        )
    return open_store(directory)


def find_run(store: Store, run: str | None) -> str:
    """The run meant: an id, a unique part of one, or the latest. Raises NotFound."""
    if run is not None:
        return store.find(run)
    latest = store.latest_run_id()
    if latest is None:
        raise NotFound("there are no runs yet", hint="start one with `runbook run FILE`")
    return latest


def person() -> str:
    """Who is at the keyboard: ``$RUNBOOK_USER``, else the login name."""
    return os.environ.get("RUNBOOK_USER") or getpass.getuser()


def controller() -> str:
    """This controller, for people who find that it holds a run."""
    return f"{person()} on {socket.gethostname()}"


def kinds() -> Mapping[str, type[Kind]]:
    from runbook.kinds import registry

    return registry()


def load_plan(file: Path, variables: list[str]) -> Plan:
    """Load, check and plan a runbook file. Raises InvalidInput with everything wrong in it."""
    return plan_of(load_book(file, variables))


def load_book(
    file: Path, variables: list[str], staging: ForStaging | None = None
) -> Runbook:
    """Load and check a runbook file, as it is or as it is rehearsed in staging. Raises
    InvalidInput, and Refused where it says nothing of staging."""
    from runbook.loading import load_runbook

    return load_runbook(
        file, kinds=kinds(), overrides=parse_vars(variables), staging=staging
    )


def plan_of(book: Runbook) -> Plan:
    """Raises InvalidInput."""
    from runbook.planning import build_plan

    return build_plan(book, kinds=kinds())


def load_staging(
    file: Path, variables: list[str], *, invert: bool = False, moved: Moved | None = None
) -> Plan:
    """The plan of a runbook file as it is rehearsed in staging. Raises InvalidInput, whose errors
    say that they are about staging, and Refused where the runbook says nothing of it."""
    from dataclasses import replace

    from runbook.errors import InvalidInput
    from runbook.loading import ForStaging

    try:
        return plan_of(load_book(file, variables, ForStaging(invert=invert, moved=moved)))
    except InvalidInput as fault:
        where = f"{STAGING}, inverted" if invert else STAGING
        raise InvalidInput(tuple(
            replace(one, message=f"{where}: {one.message}") for one in fault.diagnostics
        )) from fault


def parse_vars(variables: list[str], *, option: str = "--var") -> dict[str, str]:
    """``name=value`` options as a mapping. Raises BadParameter for anything else."""
    found: dict[str, str] = {}
    for text in variables:
        name, sep, value = text.partition("=")
        if not sep or not name.isidentifier():
            raise typer.BadParameter(f"{text!r} is not of the form name=value", param_hint=option)
        found[name] = value
    return found


def check_steps(plan: Plan, names: Sequence[str]) -> None:
    """Raises NotFound for a step that the plan does not have."""
    from runbook.templating.values import did_you_mean

    for name in names:
        if name not in plan.by_id:
            raise NotFound(f"there is no step {name!r} in the plan",
                           hint=did_you_mean(name, plan.by_id))


def check_secrets(plan: Plan) -> None:
    """Whether this machine has the secrets, as far as that is known without running a command
    that may ask for a passphrase. Raises Refused with all that it has not."""
    from runbook.model.secrets import Redactor
    from runbook.transports.secrets import SecretStore

    known = SecretStore(plan.secrets, directory=Path(plan.directory), redactor=Redactor())
    try:
        known.prove(ref.name for ref in plan.secrets if ref.source != "command")
    except Errored as fault:
        raise Refused(fault.message, hint=fault.hint) from fault


def read_endpoints(path: str) -> Endpoints:
    """The table of a sandbox. Raises Refused when that sandbox is gone."""
    from runbook.model.endpoints import Endpoints

    try:
        return Endpoints.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as fault:
        raise Refused(
            f"the sandbox of this rehearsal is gone ({path})",
            hint="a rehearsal never continues against production; start a new one with "
            "`runbook rehearse`",
        ) from fault


def real_clock() -> Clock:
    from runbook.transports.clock import SystemClock

    return SystemClock()


def run_clock(endpoints: Endpoints | None) -> Clock:
    """The run's time: the system's, or that of its sandbox."""
    if endpoints is None:
        return real_clock()
    from runbook.sandbox.clock import WorldClock

    return WorldClock(Path(endpoints.clock))


def reckoning(store: Store, plan: Plan, *, level: str, leave_out: str = "") -> Reckoning:
    """What the plan's steps and their undos are thought to take, by earlier runs of the folder."""
    from runbook.engine.history import read_history, reckon
    from runbook.engine.journaled_waits import JournaledWaits

    history = read_history(store, runbook=plan.runbook, kinds=kinds(), leave_out=leave_out)
    return reckon(plan, history, level=level, waits=JournaledWaits(kinds()))


def whereabouts(plan: Plan, state: Path, *, log_in: bool) -> PlanWhereabouts:
    """Who finds out about the machines of a plan. To be closed."""
    from runbook.transports.whereabouts import PlanWhereabouts

    world = build_world(
        plan, run_id="whereabouts", state=state, epoch=0, endpoints=None
    )
    return PlanWhereabouts(plan.inventory, world, log_in=log_in)


def build_world(
    plan: Plan, *, run_id: str, state: Path, epoch: int, endpoints: Endpoints | None,
    on_open: Callable[[str, str], None] | None = None,
) -> TransportWorld:
    """Everything outside, as one run sees it."""
    from runbook.transports.world import TransportWorld

    return TransportWorld(
        plan, run_id=run_id, state_dir=state, epoch=epoch, endpoints=endpoints,
        clock=run_clock(endpoints), on_open=on_open,
    )
