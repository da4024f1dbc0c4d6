"""``runbook status``: the live screen's picture once, as JSON, or again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from runbook.engine.advice import answers
from runbook.engine.backout import clock, safety
from runbook.engine.history import Reckoning
from runbook.engine.report import build_report
from runbook.journal import RunSummary
from runbook.model.events import Event
from runbook.model.runstate import RunState
from runbook.model.state import RunPhase
from runbook.views.amend import chain
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.frame import compose
from runbook.views.glance import Glance
from runbook.views.times import iso
from runbook.views.words import to_ascii

_OVER = frozenset(
    {RunPhase.DONE, RunPhase.ROLLED_BACK, RunPhase.NOT_RESTORED, RunPhase.ABORTED}
)
_LOOK_EVERY = 1.0
_WIDE = 160


def print_status(
    glance: Glance, *, held_by: str | None, console: Console | None = None
) -> None:
    """The whole run, every step, as it stands."""
    console = console or plain_console()
    state = glance.state
    ascii_terminal = ascii_only(console)
    # In a file, or piped to another program, there is no edge at which to cut.
    width = console.width if console.is_terminal else max(console.width, _WIDE)
    for line in compose(glance, width, None, ascii_only=ascii_terminal):
        console.print(line, soft_wrap=True)
    for told in chain(state.amendments):
        console.print(to_ascii(told) if ascii_terminal else told)
    if state.phase not in _OVER:
        console.print(_holder(held_by, state))


def _holder(held_by: str | None, state: RunState) -> Text:
    if held_by:
        return Text(f"held by {held_by}", style="dim")
    if state.phase in {RunPhase.RUNNING, RunPhase.ROLLING_BACK}:
        return Text(
            f"no controller holds this run: go on with runbook resume {state.run_id}",
            style="bold yellow",
        )
    return Text("no controller holds this run", style="dim")


def print_runs(runs: Sequence[RunSummary], *, console: Console | None = None) -> None:
    """One line a run, newest first."""
    console = console or plain_console()
    width = max((len(run.run_id) for run in runs), default=0)
    for run in runs:
        held = f"  held by {run.held_by}" if run.held_by else ""
        console.print(
            Text.assemble(
                f"{run.run_id:<{width}}  ", (f"{run.level:<8}  ", "bold"),
                f"{iso(run.created)}  {run.events} events, by {run.who}", (held, "cyan"),
            )
        )


def status_data(
    state: RunState, events: Sequence[Event], *, now: float, held_by: str | None,
    reckoning: Reckoning | None = None, output: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The status as JSON values: the report's own fields where they are the same, and the
    clocks and open questions of this moment. Times are Unix seconds, durations seconds.
    ``output``: (node, line), as in :class:`~runbook.views.glance.Glance`."""
    at = state.ended_at if state.ended_at is not None else now
    report = build_report(state, events, now=at, held=held_by is not None)
    back = clock(state, at, reckoning)
    shared = {
        "run_id", "runbook", "title", "plan_digest", "level", "phase", "headline", "why", "who",
        "started_at", "ended_at", "timezone", "window_start", "window_end", "budgets",
        "amendments", "breaches", "lateness", "next", "journal_events", "journal_head",
    }
    data = report.model_dump(mode="json", include=shared)
    data["now"] = at
    data["held_by"] = held_by
    data["remaining_window"] = back.remaining_window
    data["backout"] = back.backout
    data["backout_basis"] = back.basis
    data["settle"] = back.settle
    data["safety"] = safety(state.plan, back.backout)
    data["margin"] = back.margin
    data["past_no_return"] = list(back.one_way)
    keys = {
        "id", "title", "kind", "state", "started_at", "ended_at", "estimate", "hosts",
        "hosts_done", "attempts", "detail",
    }
    data["steps"] = [step.model_dump(mode="json", include=keys) for step in report.steps]
    data["output"] = [{"node": node, "line": line} for node, line in output]
    data["questions"] = [
        {
            "node": node.node, "question": node.question,
            "roles": list(node.asked.get("roles", ())),
            "quorum": node.asked.get("quorum", 1),
            "reason": bool(node.asked.get("reason")),
            "answer": [advice.command for advice in answers(state, node)],
        }
        for node in state.nodes.values()
        if node.question
    ]
    return data


def watch(
    look: Callable[[], Glance], *, stop: threading.Event, console: Console | None = None
) -> None:
    """Show what ``look`` sees, once a second, until the run has ended or ``stop`` is set; then
    leave the last picture on the terminal. Where there is no terminal: one picture."""
    console = console or plain_console()
    ascii_terminal = ascii_only(console)
    glance = look()

    def picture(height: int | None) -> Group:
        return Group(*compose(glance, console.width, height, ascii_only=ascii_terminal))

    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(picture(console.height), refresh=True)
                if glance.state.phase in _OVER or stop.wait(_LOOK_EVERY):
                    break
                glance = look()
    console.print(picture(None))
