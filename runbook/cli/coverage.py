"""``runbook rehearse --faults``: rollback coverage, played, recorded, shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from runbook.cli import wiring
from runbook.cli.campaign import Campaign
from runbook.cli.controllers import make_ready
from runbook.cli.output import needs_no_reader
from runbook.cli.recorded import record
from runbook.cli.stages import Stages
from runbook.engine.coverage import Coverage, column_of
from runbook.errors import ExitCode, Refused
from runbook.journal import Store
from runbook.model.faults import Fault
from runbook.model.plan import Plan
from runbook.views.coverage import CoverageProgress, show_coverage
from runbook.views.coverage_html import render_coverage
from runbook.views.coverage_junit import render_junit

COVERAGE = "coverage.json"
"""In the folder of the run without a fault: the whole matrix."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    faults: Sequence[str]
    steps: Sequence[str]
    jobs: int
    out: Path | None
    junit: Path | None
    plain: bool
    as_json: bool


def parse_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """``each-step``, ``kill``, ``kill-back``, ``disconnect``, ``slow=3x``, also with commas
    between them.

    Raises BadParameter for anything else."""
    found: list[Fault] = []
    for word in (word.strip() for text in texts for word in text.split(",")):
        name, _, value = word.partition("=")
        if word == "each-step":
            found.append(Fault(kind="fail"))
        elif word == "kill":
            found += [Fault(kind="kill", moment="intent"), Fault(kind="kill", moment="effect")]
        elif word == "kill-back":
            found.append(Fault(kind="kill", moment="undo"))
        elif word == "disconnect":
            found.append(Fault(kind="cut"))
        elif name == "slow":
            found.append(Fault(kind="slow", factor=_factor(word, value)))
        else:
            raise typer.BadParameter(
                f"no fault {word!r}: there are each-step, kill, kill-back, disconnect and slow=3x"
            )
    return tuple(dict.fromkeys(found))


def _factor(word: str, value: str) -> float:
    try:
        factor = float(value.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 1 < factor <= 1000:
        raise typer.BadParameter(f"{word!r}: how many times as slow? Like slow=3x")
    return factor


def checked(plan: Plan, wanted: Wanted) -> tuple[Fault, ...]:
    """The faults, before anything is played. Raises BadParameter, NotFound,
    Refused."""
    faults = parse_faults(wanted.faults)
    wiring.check_steps(plan, wanted.steps)
    for path in filter(None, (wanted.out, wanted.junit)):
        _check_writable(path)
    return faults


def covered(
    plan: Plan, store: Store, stages: Stages, wanted: Wanted, *, rehearsed: Plan | None = None
) -> NoReturn:
    """Play, record and show; exits with 0, or 25 where something does not hold. ``rehearsed``: the
    plan under whose digest it is recorded, where that is not the one that is played."""
    faults = checked(plan, wanted)
    live = not wanted.plain and not wanted.as_json and sys.stdout.isatty()
    progress = CoverageProgress(plan, tuple(dict.fromkeys(map(column_of, faults))), live=live)
    campaign = Campaign(
        plan, store, stages, faults, steps=wanted.steps, jobs=wanted.jobs or os.cpu_count() or 1,
    )
    if not wanted.as_json:
        campaign.progress = progress.tell
    make_ready()
    needs_no_reader()
    try:
        with progress:
            coverage = campaign.play()
    except KeyboardInterrupt:
        left = ("staging is as the latest run left it (runbook status)" if stages.one
                else "every world was taken away again")
        typer.echo(f"stopped: {left}, and no rehearsal was recorded", err=True)
        raise typer.Exit(int(ExitCode.STOPPED)) from None
    _keep(store, rehearsed or plan, coverage)
    written = []
    for file, text in ((wanted.out, render_coverage), (wanted.junit, render_junit)):
        if file is not None:
            file.write_text(text(coverage), encoding="utf-8")
            written.append(file)
    show_coverage(coverage, as_json=wanted.as_json, written=written)
    raise typer.Exit(int(ExitCode.OK if coverage.ok else ExitCode.REHEARSAL_FAILED))


def _keep(store: Store, plan: Plan, coverage: Coverage) -> None:
    """Under the digest of the plan, as every rehearsal is; the matrix in the folder of the run
    that had no fault. The runs themselves stay, with what going back took."""
    whole = coverage.cells[0]
    path = store.run_directory(whole.run) / COVERAGE
    path.write_text(json.dumps(coverage.as_json(), indent=1), encoding="utf-8")
    lost = [cell.lost for cell in coverage.cells if cell.lost is not None]
    record(store, plan, coverage.level, whole.run, coverage.ok, {
        "played_digest": coverage.digest,
        "faults": list(coverage.columns), "at_steps": list(coverage.only),
        "of_steps": len(coverage.steps), "worlds": len(coverage.cells),
        "undoable": list(coverage.undoable), "restored": list(coverage.restored),
        "irreversible": [row.step for row in coverage.irreversible],
        "lost": max(lost) if lost else None,
    })


def _check_writable(path: Path) -> None:
    """Before an hour of playing, not after it. Raises Refused."""
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise Refused(f"{path} cannot be written", hint="nothing was started")
