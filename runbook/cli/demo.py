"""``runbook demo``: a whole migration in an embedded world, from plan to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runbook.cli.options import Plain, State


def command(
    fail: Annotated[
        str | None,
        typer.Option("--fail", metavar="STEP", help="Make this step fail; watch it go back."),
    ] = None,
    kill: Annotated[
        str | None,
        typer.Option("--kill", metavar="STEP",
                     help="Kill the controller in this step (SIGKILL), then resume."),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option("--skip", metavar="STEP",
                     help="Leave a step out, e.g. freeze: the judge counts the lost orders."),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Waits last as long as they say (hours).")
    ] = False,
    example: Annotated[
        Path | None,
        typer.Option("--example", metavar="FILE", help="Another runbook with a sandbox.yml."),
    ] = None,
    plain: Plain = False,
    state: State = None,
) -> None:
    from runbook.cli.demonstration import Demonstration, shipped_example

    Demonstration(
        file=example or shipped_example(), state=state, fail=fail, kill=kill,
        leave_out=leave_out, real_time=real_time, plain=plain,
    ).show()
