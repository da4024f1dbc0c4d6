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
    faults: Annotated[
        list[str] | None,
        typer.Option("--faults", metavar="FAULT", help="Rollback coverage: at each step in turn, "
                     "in a world of its own: each-step (it fails), kill (the controller, before "
                     "and after its effect), kill-back (while it is undone), disconnect (SSH, in "
                     "its middle), slow=3x."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="STEP", help="With --faults: only at this step."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, metavar="N",
                          help="With --faults: worlds at a time; else one a processor."),
    ] = 0,
    traffic: Annotated[
        bool, typer.Option("--traffic/--no-traffic",
                           help="With --faults: customers at work in each world."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", dir_okay=False,
                     help="With --faults: the result as one HTML page."),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", dir_okay=False,
                     help="With --faults: the result as JUnit XML, for CI."),
    ] = None,
    json: Json = False,
    plain: Plain = False,
    state: State = None,
) -> None:
    from runbook.cli import rehearsals, wiring

    if faults and (level is not Level.sandbox or fail or real_time):
        raise typer.BadParameter("--faults goes with --level sandbox, without --fail or "
                                 "--real-time")
    if not faults and (step or out or junit):
        raise typer.BadParameter("--step, --out and --junit go with --faults")
    plan = wiring.load_plan(file, var or [])
    store = wiring.open_state(state)
    if level is Level.plan:
        rehearsals.offline(plan, store, as_json=json)
    elif level is Level.probe:
        rehearsals.probed(plan, store, as_json=json)
    elif faults:
        from runbook.cli.coverage import Wanted, covered
        from runbook.cli.embedded import sandbox_config

        covered(plan, store, sandbox_config(file, config), Wanted(
            faults=faults, steps=step or (), jobs=jobs, traffic=traffic, out=out, junit=junit,
            plain=plain, as_json=json,
        ))
    else:
        rehearsals.played(
            plan, store, file, config, fail=tuple(fail or ()), real_time=real_time,
            plain=plain, as_json=json,
        )
