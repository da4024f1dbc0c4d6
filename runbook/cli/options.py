"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of runs of the state folder, for the shell; none where there is no folder."""
    from runbook.cli import wiring
    from runbook.errors import RunbookError

    try:
        store = wiring.open_state(_folder(ctx), must_exist=True)
        return [run.run_id for run in store.runs() if run.run_id.startswith(incomplete)]
    except RunbookError:
        return []


def complete_step(ctx: typer.Context, incomplete: str) -> list[str]:
    """Steps of the run that was typed, for the shell."""
    from runbook.cli import wiring
    from runbook.errors import RunbookError

    try:
        store = wiring.open_state(_folder(ctx), must_exist=True)
        plan, _ = store.load(wiring.find_run(store, ctx.params.get("run")))
        return [step.id for step in plan.steps if step.id.startswith(incomplete)]
    except RunbookError:
        return []


def _folder(ctx: typer.Context) -> Path | None:
    given = ctx.params.get("state")
    return Path(given) if given else None


RunbookFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The runbook.", exists=True, dir_okay=False)
]
Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", autocompletion=complete_run,
                   help="Id of a run, or a unique part of it; else the latest."),
]
RunRequired = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, or a unique part of it.",
                        autocompletion=complete_run)
]
Step = Annotated[
    str, typer.Argument(metavar="STEP", help="A step, or STEP@HOST for one host of it.",
                        autocompletion=complete_step)
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
