"""``runbook rollback --plan``: what going back from here would undo, in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from runbook.engine.backout import backout_time, reckoned_undos
from runbook.engine.history import Reckoning
from runbook.engine.rollback import past_return, to_undo
from runbook.model.duration import format_duration
from runbook.model.plan import PlannedStep
from runbook.model.runstate import RunState
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.words import STATE_WORD, one_line, to_ascii


def show_rollback_plan(
    state: RunState, to: str | None, *, as_json: bool = False, console: Console | None = None,
    reckoning: Reckoning | None = None,
) -> None:
    """Print the steps a rollback (``to``: back to that step) would undo, first undone first, and
    how long that is reckoned to take.

    Raises NotFound for an unknown step.
    """
    console = console or plain_console()
    steps = to_undo(state, to)
    losses = {step.id for step in past_return(state, to)}
    takes = reckoned_undos(state, reckoning)
    whole = backout_time(state, reckoning)
    if as_json:
        rows = [
            {
                "step": step.id, "title": step.title, "state": state.step_state(step.id).value,
                "estimate_undo": step.estimate_undo, "takes": takes[step.id],
                "irreversible": step.irreversible, "past_no_return": step.id in losses,
            }
            for step in steps
        ]
        data = {"run_id": state.run_id, "to": to, "backout": whole, "steps": rows}
        console.file.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
        return
    for line in _lines(state, to, steps, losses, takes):
        if ascii_only(console):
            line.plain = to_ascii(line.plain)
        console.print(line)
    if steps and to is None:
        console.print(Text(f"back-out time: {format_duration(whole)}, steps side by side where "
                           "the plan allows it"))


def _lines(
    state: RunState, to: str | None, steps: list[PlannedStep], losses: set[str],
    takes: Mapping[str, float],
) -> list[Text]:
    if not steps:
        return [Text("there is nothing to undo: no step has had an effect that still stands")]
    where = f" to {to}" if to else ""
    lines = [Text(f"rolling {state.run_id} back{where} would undo, in this order:", style="bold")]
    width = max(len(step.id) for step in steps)
    for number, step in enumerate(steps, 1):
        line = Text(f"{number:>4}  {step.id:<{width}}  ")
        if step.irreversible is not None:
            line.append(f"cannot be undone: {one_line(step.irreversible)}", style="bold red")
        else:
            line.append(f"~{format_duration(takes[step.id]):<8}", style="dim")
            line.append(f" now {STATE_WORD[state.step_state(step.id)]}")
            if step.title:
                line.append(f"  {one_line(step.title)}", style="dim")
        if step.id in losses:
            line.append(f"  needs --accept-loss {step.id}", style="bold yellow")
        lines.append(line)
    return lines
