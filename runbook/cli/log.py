"""``runbook log``: what happened, event by event; a step's whole output."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Json, Run, State


def command(
    run: Run = None,
    step: Annotated[
        str | None,
        typer.Argument(metavar="STEP", help="Only this step, or STEP@HOST for one host of it."),
    ] = None,
    output: Annotated[
        bool, typer.Option("--output", "-o", help="Print the step's whole stored output.")
    ] = False,
    json: Json = False,
    state: State = None,
) -> None:
    from runbook.cli import wiring
    from runbook.cli.answer import nodes_of
    from runbook.errors import NotFound
    from runbook.model.folding import fold
    from runbook.views import log as view

    store = wiring.open_state(state, must_exist=True)
    run_id = wiring.find_run(store, run)
    pinned, events = store.load(run_id)
    folded = fold(run_id, pinned, events)
    plan = folded.plan
    nodes = nodes_of(folded, step) if step else list(plan.nodes | pinned.nodes)
    if output:
        found = view.outputs_of(events, nodes, store.directory)
        if not found:
            raise NotFound(
                f"run {run_id} has no stored output of {step or 'any step'}",
                hint="only steps that ran a command have one",
            )
        if json:
            for line in view.output_lines(found):
                typer.echo(line)
        else:
            view.print_outputs(found)
        return
    shown = view.of_nodes(events, nodes) if step else events
    if json:
        for line in view.json_lines(shown):
            typer.echo(line)
    else:
        view.print_log(plan, shown)
