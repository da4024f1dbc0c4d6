"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunbookFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The runbook.", exists=True, dir_okay=False)
]
Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="Id of a run, or a unique part of it; else the latest."),
]
RunRequired = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, or a unique part of it.")
]
Step = Annotated[
    str, typer.Argument(metavar="STEP", help="A step, or STEP@HOST for one host of it.")
]
State = Annotated[
    Path | None,
    typer.Option("--state", help="State folder (else $RUNBOOK_STATE, else .runbook)."),
]
Vars = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="Set a variable of the runbook."),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option("--output", metavar="NAME=VALUE",
                 help="An output that later steps need, and the step itself does not give now."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Plain = Annotated[bool, typer.Option("--plain", help="One line an event; no live screen.")]
Why = Annotated[str, typer.Option("--why", "-m", help="The reason; it is journaled.")]
