"""The table of steps on a terminal: symbol, name, hosts, time against estimate, last words."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from runbook.engine.report import step_detail
from runbook.engine.timing import do_span, undo_span
from runbook.model.duration import format_duration
from runbook.model.plan import PlannedStep
from runbook.model.runstate import RunState
from runbook.model.state import FINISHED, NodeState
from runbook.views.bars import bar
from runbook.views.glance import (
    Glance,
    asks,
    is_active,
    next_steps,
    rows_to_show,
    waiting_until,
)
from runbook.views.times import plan_zone, time_of_day
from runbook.views.words import ASCII_SYMBOL, STATE_WORD, STYLE, SYMBOL, one_line

_TIME = 15
_QUIET = frozenset({NodeState.VERIFIED, NodeState.PENDING, NodeState.STARTED, NodeState.SKIPPED})
"""States whose word the symbol makes plain enough."""
_BACKWARD = frozenset(
    {NodeState.UNDOING, NodeState.ROLLED_BACK, NodeState.ROLLBACK_FAILED, NodeState.IRREVERSIBLE}
)
_RUNNING = frozenset({NodeState.STARTED, NodeState.APPLIED, NodeState.UNDOING})


def step_rows(glance: Glance, width: int, rows: int | None, ascii_only: bool) -> list[Text]:
    """At most ``rows`` lines (None: one a step), every active step among them if they fit."""
    state = glance.state
    steps = state.plan.steps
    active = [is_active(state, step) for step in steps]
    shown = rows_to_show(active, _focus(state), len(steps) if rows is None else rows)
    name_width = _name_width(steps, shown, width)
    any_hosts = any(node.host for step in steps for node in step.nodes)
    lines = []
    for item in shown:
        if isinstance(item, int):
            lines.append(_row(glance, steps[item], name_width, any_hosts, width, ascii_only))
        else:
            lines.append(_gap(state, steps[item[0] : item[1]], ascii_only))
    return lines


def _focus(state: RunState) -> int:
    """Where to look when nothing is active: the first step to come, else the last one."""
    index = {step.id: i for i, step in enumerate(state.plan.steps)}
    coming = next_steps(state)
    return index[coming[0].id] if coming else len(index) - 1


def _name_width(
    steps: tuple[PlannedStep, ...], shown: list[int | tuple[int, int]], width: int
) -> int:
    longest = max((len(steps[i].id) for i in shown if isinstance(i, int)), default=8)
    return max(8, min(longest, 16 if width < 90 else 28))


def _gap(state: RunState, steps: tuple[PlannedStep, ...], ascii_only: bool) -> Text:
    counts = Counter(
        STATE_WORD[NodeState.SKIPPED if step.skipped else state.step_state(step.id)]
        for step in steps
    )
    words = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    return Text(f"{'...' if ascii_only else '⋯'} {words}", style="dim")


def _row(
    glance: Glance, step: PlannedStep, name_width: int, any_hosts: bool, width: int,
    ascii_only: bool,
) -> Text:
    state = glance.state
    now_state = NodeState.SKIPPED if step.skipped else state.step_state(step.id)
    style = "bold magenta" if asks(state, step) else STYLE[now_state]
    symbol = (ASCII_SYMBOL if ascii_only else SYMBOL)[now_state]
    if asks(state, step):
        symbol = "?"
    name = Text(step.id, style=style)
    name.truncate(name_width, overflow="crop" if ascii_only else "ellipsis", pad=True)
    line = Text.assemble((symbol, style), " ", name, " ")
    if any_hosts:
        line.append(f"{_hosts(state, step):>7} ", style="dim")
    times = _times(glance, step, now_state)
    times.pad_right(max(0, _TIME - times.cell_len))
    line.append_text(times).append(" ")
    if width >= 70:
        line.append_text(_progress_bar(glance, step, now_state, ascii_only)).append(" ")
    return line.append_text(_words(glance, step, now_state))


def _hosts(state: RunState, step: PlannedStep) -> str:
    nodes = [state.nodes[node.id] for node in step.nodes if node.host]
    if not nodes:
        return ""
    back = any(n.state in _BACKWARD for n in nodes)
    done = FINISHED if not back else frozenset({NodeState.ROLLED_BACK})
    return f"{sum(n.state in done for n in nodes)}/{len(nodes)}"


def _measured(
    glance: Glance, step: PlannedStep, now_state: NodeState
) -> tuple[float, float] | None:
    """(elapsed, estimate) of what the step does now or did last; None: nothing yet."""
    span = do_span(glance.state, step.id)
    estimate = step.estimate
    if now_state in _BACKWARD:
        span, estimate = undo_span(glance.state, step.id), step.estimate_undo
    if span is None:
        return None
    start, end = span
    stop = glance.state.ended_at if glance.state.ended_at is not None else glance.now
    return max(0.0, (end if end is not None else stop) - start), estimate


def _times(glance: Glance, step: PlannedStep, now_state: NodeState) -> Text:
    measured = _measured(glance, step, now_state)
    if now_state is NodeState.SKIPPED:
        return Text("")
    if measured is None:
        known = "" if now_state in _BACKWARD else f"~{format_duration(step.estimate)}"
        return Text(known, style="dim")
    elapsed, estimate = measured
    late = now_state in _RUNNING and elapsed > estimate
    text = Text(format_duration(elapsed), style="bold yellow" if late else "")
    return text.append(f" / {format_duration(estimate)}", style="dim")


def _progress_bar(
    glance: Glance, step: PlannedStep, now_state: NodeState, ascii_only: bool
) -> Text:
    cells = 8
    measured = _measured(glance, step, now_state)
    if measured is None or now_state not in _RUNNING:
        return Text(" " * cells)
    elapsed, estimate = measured
    share = elapsed / estimate if estimate else 1.0
    return bar(share, cells, "yellow" if share > 1 else "cyan", ascii_only)


def _words(glance: Glance, step: PlannedStep, now_state: NodeState) -> Text:
    state = glance.state
    zone = plan_zone(state.plan)
    if now_state is NodeState.PENDING:
        anchor = max(step.at or 0.0, step.not_before or 0.0)
        title = one_line(step.title)
        if anchor > glance.now:
            left = format_duration(anchor - glance.now)
            moment = time_of_day(anchor, zone)
            return Text(f"at {moment}, in {left}  {title}", style="dim")
        return Text(title, style="dim")
    nodes = [state.nodes[node.id] for node in step.nodes]
    waiting = waiting_until(nodes)
    if waiting is not None and not asks(state, step):
        until, why = waiting
        left = format_duration(max(0.0, until - glance.now))
        return Text(f"until {time_of_day(until, zone)}, {left} left: {one_line(why)}")
    detail = one_line(step.skipped or step_detail(state, step))
    if now_state in {NodeState.STARTED, NodeState.APPLIED} and not detail:
        detail = one_line(step.title)
    if now_state in _QUIET or asks(state, step):
        return Text(detail, style="dim" if now_state is NodeState.SKIPPED else "")
    word = Text(STATE_WORD[now_state], style=STYLE[now_state])
    return word.append(f": {detail}" if detail else "", style="not bold")
