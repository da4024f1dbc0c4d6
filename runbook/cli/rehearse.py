"""``runbook rehearse``: a run that cannot change production."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from runbook.cli.options import Json, Plain, RunbookFile, State, Vars


class Level(StrEnum):
    plan = "plan"
    probe = "probe"
    sandbox = "sandbox"


def command(
    file: RunbookFile,
    level: Annotated[
        Level,
        typer.Option("--level", "-l", help="plan: offline. probe: reads the real hosts, zones "
                     "and services. sandbox: everything, in an embedded world."),
    ] = Level.plan,
    var: Vars = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The sandbox.yml to use.")
    ] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option("--fail", metavar="STEP", help="sandbox: make this step fail."),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="sandbox: waits last as long as they say.")
    ] = False,
    json: Json = False,
    plain: Plain = False,
    state: State = None,
) -> None:
    from runbook.cli import rehearsals, wiring

    plan = wiring.load_plan(file, var or [])
    store = wiring.open_state(state)
    if level is Level.plan:
        rehearsals.offline(plan, store, as_json=json)
    elif level is Level.probe:
        rehearsals.probed(plan, store, as_json=json)
    else:
        rehearsals.played(
            plan, store, file, config, fail=tuple(fail or ()), real_time=real_time,
            plain=plain, as_json=json,
        )
