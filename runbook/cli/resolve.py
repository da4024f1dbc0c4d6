"""``runbook resolve``: say what became of a step in doubt, after looking at it."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Outputs, RunRequired, State, Step, Why


def command(
    run: RunRequired,
    step: Step,
    done: Annotated[
        bool, typer.Option("--done/--not-done", help="It took effect, or it did not.")
    ],
    output: Outputs = None,
    why: Why = "",
    state: State = None,
) -> None:
    from runbook.cli.answer import load_state, nodes_of, outputs_given, say
    from runbook.cli.wiring import find_run, open_state
    from runbook.errors import Refused

    if output and not done:
        raise Refused("only a step that is done has outputs", hint="--output goes with --done")
    store = open_state(state, must_exist=True)
    folded = load_state(store, find_run(store, run))
    forward = not any(folded.nodes[node].undo_unsettled for node in nodes_of(folded, step))
    data = {"outcome": "done" if done else "not_done", "why": why}
    given = outputs_given(run, step, output or [], state=state, observed=True) \
        if done and forward else {}
    say(run, "resolve", step=step, state=state, data={**data, "outputs": given})
