"""What ``runbook demo`` says before and after the run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.sandbox.judgement import Judgement
from runbook.views.consoles import styled_console


def show_head(plan: Plan, file: Path) -> None:
    """What is going to be shown, and that nothing real is touched."""
    console = styled_console()
    console.print(Panel(
        f"[bold]{escape(plan.title)}[/bold]\n"
        f"{len(plan.steps)} steps, digest {plan.digest[:12]}\n\n"
        "Two datacenters, name servers, SSH hosts and a shop come up on this machine, as an "
        "ordinary user; customers place orders all the while, and count afterwards what they "
        "lost. Nothing else is touched.\n"
        f"[dim]The runbook: {file}[/dim]",
        title="runbook demo", border_style="cyan",
    ))


def show_verdict(
    state: RunState, judgement: Judgement | None, changed: list[str] | None, *, report: Path,
    ok: bool,
) -> None:
    """The judge's numbers, whether the world is as before, and where to read more."""
    console = styled_console()
    table = Table(title="What the customers saw", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if judgement is not None:
        for label, value, bad in _numbers(judgement):
            table.add_row(label, f"[red bold]{value}[/]" if bad else value)
        console.print(table)
    if changed is not None:
        if changed:
            console.print("[red bold]The world is not as it was before:[/]")
            for line in changed[:20]:
                console.print(f"  {line}", markup=False)
        else:
            console.print("[green]The world was compared with before: files, zones and services "
                          "are the same.[/]")
    if judgement is not None and judgement.writes_lost:
        console.print(f"[red bold]The judge: {judgement.writes_lost} orders were acknowledged "
                      "and are gone.[/] This is what the left-out step is for.")
    mark = "[green bold]as it should be[/]" if ok else "[red bold]NOT as it should be[/]"
    console.print(f"Run {state.run_id}: {state.phase}, {mark}.")
    console.print(f"Report: {report}", soft_wrap=True)
    look = [f"{_called()} {command} {state.run_id}" for command in ("status", "log", "report")]
    console.print(f"Look further: {' · '.join(look)}", soft_wrap=True)


def _called() -> str:
    """How to call this program again: `make demo` has it in a virtual environment."""
    if shutil.which("runbook") or Path(sys.argv[0]).name != "runbook":
        return "runbook"
    return os.path.relpath(sys.argv[0])


def _numbers(j: Judgement) -> list[tuple[str, str, bool]]:
    lost = "not audited" if j.writes_lost is None else str(j.writes_lost)
    return [
        ("orders acknowledged", str(j.writes_acknowledged), False),
        ("acknowledged orders lost", lost, bool(j.writes_lost)),
        ("write outage, real time", format_duration(j.write_outage.total_real), False),
        ("write outage, the run's time", format_duration(j.write_outage.total_virtual), False),
        ("read outage, real time", format_duration(j.read_outage.total_real), False),
        ("pages loaded", f"{j.reads_loaded} ({j.reads_fallback} the fallback page)", False),
    ]
