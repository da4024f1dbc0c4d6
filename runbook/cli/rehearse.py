"""``runbook rehearse``: a run that cannot change production."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runbook.cli.options import Json, Plain, RunbookFile, State, Vars
from runbook.model.duration import parse_duration

if TYPE_CHECKING:
    from runbook.cli.levels import Repeat


class Level(StrEnum):
    plan = "plan"
    probe = "probe"
    simulate = "simulate"
    sandbox = "sandbox"
    staging = "staging"


class World(StrEnum):
    live = "live"
    sandbox = "sandbox"


def command(
    file: RunbookFile,
    level: Annotated[
        Level,
        typer.Option("--level", "-l", metavar="LEVEL",
                     help="plan: offline. probe: reads the real hosts, zones and services. "
                     "simulate: the plan on a virtual clock, thousands of times. "
                     "sandbox: everything, in an embedded world. staging: everything, on the "
                     "hosts of the runbook's `staging:`."),
    ] = Level.plan,
    var: Vars = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The sandbox.yml to use.")
    ] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option("--fail", metavar="STEP", help="sandbox, and staging with `faults: true`: "
                     "make this step fail."),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="sandbox: waits last as long as they say. "
                           "staging: dates (`at:`) stay as far from each other as they are.")
    ] = False,
    invert: Annotated[
        bool, typer.Option("--invert", help="staging: the other direction, as its `invert:` says.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="staging: take the move back when it is done.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="staging: ask nothing; gates are answered by the "
                           "rehearsal.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="DURATION", help="probe: again and again, like 1h; a line "
                     "and what has changed for each, until Ctrl-C or until the window begins."),
    ] = None,
    times: Annotated[
        int | None, typer.Option("--times", min=1, metavar="N", help="With --every: N in all.")
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", min=100, metavar="N", help="simulate: so many times.")
    ] = 10_000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N",
                          help="simulate: the same seed gives the same result.")
    ] = 1,
    failure_rate: Annotated[
        list[str] | None,
        typer.Option("--failure-rate", metavar="[STEP=]RATE",
                     help="simulate: chance that a try of a step fails; else as observed."),
    ] = None,
    certainty: Annotated[
        float,
        typer.Option("--certainty", min=0.5, max=0.999, metavar="SHARE",
                     help="simulate: how certain the window, and the time to decide, shall be."),
    ] = 0.95,
    world: Annotated[
        World, typer.Option("--for", metavar="LEVEL", help="simulate: the run that is predicted, "
                            "live or sandbox.")
    ] = World.live,
    faults: Annotated[
        list[str] | None,
        typer.Option("--faults", metavar="FAULT", help="Rollback coverage: at each step in turn, "
                     "in a world of its own (in staging, with `faults: true`, one after the "
                     "other): each-step (it fails), kill (the controller, before "
                     "and after its effect), kill-back (while it is undone), disconnect (SSH, in "
                     "its middle), slow=3x."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="STEP", help="With --faults: only at this step."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, metavar="N",
                          help="With --faults: sandboxes at a time; else one a processor."),
    ] = 0,
    traffic: Annotated[
        bool, typer.Option("--traffic/--no-traffic",
                           help="With --faults: customers at work in each sandbox."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", dir_okay=False,
                     help="With --faults, and of a simulation: the result as one HTML page."),
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
    from runbook.cli import levels, wiring

    if faults and (level not in {Level.sandbox, Level.staging} or fail or real_time or back):
        raise typer.BadParameter("--faults goes with --level sandbox or staging, without --fail, "
                                 "--back or --real-time")
    if not faults and (step or junit or (out and level is not Level.simulate)):
        raise typer.BadParameter("--step, --out and --junit go with --faults (--out with "
                                 "--level simulate, too)")
    if level is not Level.staging and (invert or back or yes):
        raise typer.BadParameter("--invert, --back and --yes go with --level staging")
    if back and fail:
        raise typer.BadParameter("--fail goes back by itself; leave --back out")
    repeat = _repeat(level, every, times)
    cover = None
    if faults:
        from runbook.cli.coverage import Wanted

        cover = Wanted(faults=faults, steps=step or (), jobs=jobs, out=out, junit=junit,
                       plain=plain, as_json=json)
    if level is Level.staging:
        from runbook.cli import staged

        staged.staged(state, staged.Wanted(
            file=file, variables=var or [], fail=tuple(fail or ()), invert=invert, back=back,
            real_time=real_time, yes=yes, plain=plain, as_json=json, cover=cover,
        ))
    plan = wiring.load_plan(file, var or [])
    store = wiring.open_state(state)
    if level is Level.plan:
        levels.offline(plan, store, as_json=json)
    elif level is Level.probe:
        levels.probed(plan, store, as_json=json, repeat=repeat)
    elif cover is not None:
        from runbook.cli.coverage import covered
        from runbook.cli.embedded import sandbox_config
        from runbook.cli.stages import Sandboxes

        worlds = Sandboxes(plan, store, sandbox_config(file, config), traffic=traffic)
        covered(plan, store, worlds, cover)
    elif level is Level.simulate:
        from runbook.cli.simulated import Odds, simulated

        simulated(
            plan, store,
            Odds(runs=runs, seed=seed, certainty=certainty, world=world.value,
                 failure_rates=tuple(failure_rate or ())),
            out=out, as_json=json,
        )
    else:
        levels.played(
            plan, store, file, config, fail=tuple(fail or ()), real_time=real_time,
            plain=plain, as_json=json,
        )


def _repeat(level: Level, every: str | None, times: int | None) -> Repeat:
    from runbook.cli.levels import Repeat

    if every is None:
        if times is not None:
            raise typer.BadParameter("--times goes with --every")
        return Repeat()
    if level is not Level.probe:
        raise typer.BadParameter("--every goes with --level probe")
    try:
        seconds = parse_duration(every)
    except ValueError as fault:
        raise typer.BadParameter(f"--every: {fault}") from fault
    if seconds < 1:
        raise typer.BadParameter("--every: at least 1s")
    return Repeat(seconds, times)
