"""One moment of a run as lines of text for a terminal: never wider or higher than it is.

:func:`compose` is pure: a :class:`Glance` in, lines out.
"""

from __future__ import annotations

import dataclasses
import textwrap
from datetime import UTC

from rich.text import Text

from runbook.engine.advice import advise
from runbook.engine.backout import BackoutClock, clock
from runbook.engine.timing import BudgetReading, read_budget
from runbook.model.duration import format_duration
from runbook.model.runstate import WAY_BACK
from runbook.model.state import FINISHED, RunPhase
from runbook.views.bars import bar
from runbook.views.glance import Glance, next_steps
from runbook.views.step_rows import step_rows
from runbook.views.times import at, plan_zone, time_of_day
from runbook.views.words import PHASE_STYLE, PHASE_WORD, level_word, one_line, to_ascii

_BAR = 20
_MOST_OUTPUT = 12


def compose(
    glance: Glance, width: int, height: int | None, *, ascii_only: bool = False,
    output: bool = True,
) -> list[Text]:
    """The screen. ``height`` None: as high as it needs to be, every step shown.

    A run that has ended is shown as it stood at its end.
    """
    if glance.state.ended_at is not None:
        ended = glance.state.ended_at
        glance = dataclasses.replace(glance, now=ended, real_now=ended)
    head = _header(glance, width, ascii_only)
    room = 200 if height is None else max(height, 8)
    budgets = _budgets(glance, ascii_only)
    head += budgets[: max(1, room // 8)]
    foot = _footer(glance, width, room)
    least_output = min(len(glance.output), 3 if room < 28 else 5)
    if not output:
        least_output = 0
    fixed = len(head) + 1 + len(foot) + (least_output + 1 if least_output else 0)
    body = step_rows(
        glance, width, None if height is None else max(room - fixed, 3), ascii_only
    )
    lines = [*head, _rule(_progress(glance), width, ascii_only), *body, *foot]
    if least_output:
        spare = room - len(lines) - 1
        lines += [_rule("output", width, ascii_only), *_output(glance, min(spare, _MOST_OUTPUT))]
    lines = lines if height is None else lines[:height]
    return [_fit(line, width, ascii_only) for line in lines]


def _fit(line: Text, width: int, ascii_only: bool) -> Text:
    line = line.copy()
    line.no_wrap = True
    if ascii_only:
        line.plain = to_ascii(line.plain)
    line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return line


def _rule(title: str, width: int, ascii_only: bool) -> Text:
    dash = "-" if ascii_only else "─"
    text = Text(f"{dash * 2} {title} ", style="dim")
    text.append(dash * max(0, width - text.cell_len))
    return text


def _two_sided(left: Text, right: Text, width: int) -> Text:
    space = width - right.cell_len - 1
    left = left.copy()
    left.truncate(max(space, 0), overflow="ellipsis", pad=True)
    return Text.assemble(left, " ", right)


def _progress(glance: Glance) -> str:
    state = glance.state
    steps = state.plan.steps
    done = sum(state.step_state(step.id) in FINISHED for step in steps)
    text = f"{done} of {len(steps)} steps done"
    one_way = clock(state, glance.now).one_way
    if one_way and state.phase is not RunPhase.DONE:
        text += f", past the point of no return ({', '.join(one_way)})"
    return text


def _header(glance: Glance, width: int, ascii_only: bool) -> list[Text]:
    state = glance.state
    level = state.level
    right = Text.assemble(
        (f" {level_word(level)} ", "bold white on red" if level == "live" else "bold blue"),
        "  ",
        (PHASE_WORD[state.phase], PHASE_STYLE[state.phase]),
    )
    title = Text(one_line(state.plan.title or state.plan.runbook), style="bold")
    zone = plan_zone(state.plan)
    moment = at(glance.now, zone)
    when = Text("ended " if state.ended_at is not None else "")
    when.append(f"{moment:%a %d %b %H:%M:%S %Z}".rstrip(), style="bold")
    if moment.tzname() != "UTC":
        when.append(f"  {at(glance.now, UTC):%H:%M:%S} UTC")
    if abs(glance.real_now - glance.now) > 1:
        really = f"; really {time_of_day(glance.real_now, zone)}" if width >= 100 else " time"
        when.append(f"  virtual{really}", style="blue")
    name = Text(state.run_id, style="dim")
    lines = [_two_sided(title, right, width), _two_sided(when, name, width)]
    return [*lines, *_clocks(glance, width, ascii_only)]


def _clocks(glance: Glance, width: int, ascii_only: bool) -> list[Text]:
    """The window, and the way back: on a line each where one is too narrow for both."""
    read = clock(glance.state, glance.now, glance.reckoning)
    window, back = _window(glance, read, ascii_only), _way_back(glance, read)
    if window and back and window.cell_len + 3 + back.cell_len <= width:
        return [Text.assemble(window, "   ", back)]
    return [line for line in (window, back) if line] or [Text()]


def _window(glance: Glance, back: BackoutClock, ascii_only: bool) -> Text:
    window = glance.state.plan.window
    line = Text()
    if window is not None and back.remaining_window is not None:
        gone = (glance.now - window.start) / window.duration if window.duration else 1.0
        line.append("Window   ", style="dim")
        style = "red" if gone > 1 else "yellow" if gone > 0.75 else "cyan"
        line.append_text(bar(gone, _BAR, style, ascii_only))
        if glance.now < window.start:
            line.append(f" opens in {format_duration(window.start - glance.now)}")
        elif back.remaining_window < 0:
            line.append(f" over by {format_duration(-back.remaining_window)}", style="bold red")
        else:
            line.append(f" {format_duration(back.remaining_window)} left")
    return line


def _way_back(glance: Glance, back: BackoutClock) -> Text:
    """Empty once there is nothing to go back from. The margin is what people look for."""
    state = glance.state
    line = Text()
    if state.phase in {RunPhase.DONE, RunPhase.ROLLED_BACK}:
        return line
    if back.margin is not None:
        line.append("Margin ", style="dim")
        line.append(format_duration(back.margin), style=margin_style(back.margin, back.backout))
        line.append("   ")
    line.append("Back-out ", style="dim")
    line.append(format_duration(back.backout), style="bold")
    if back.basis:
        line.append(f" {back.basis}", style="dim")
    if back.settle >= 1:
        line.append(f" + {format_duration(back.settle)} at work", style="yellow")
    accepted = [late.who for late in state.lateness if late.action == "accepted"]
    if state.accepted_until is not None and not state.rolling_back:
        line.append(f"  accepted by {accepted[-1]}", style="bold magenta")
    return line


def margin_style(margin: float, backout: float) -> str:
    """Red: going back no longer fits the window. Yellow: it soon will not."""
    if margin < 0:
        return "bold red"
    return "bold yellow" if margin < max(300.0, backout * 0.5) else "bold green"


def _budgets(glance: Glance, ascii_only: bool) -> list[Text]:
    state = glance.state
    readings = [read_budget(state, budget, glance.now) for budget in state.plan.budgets]
    order = {"running": 0, "closed": 1, "waiting": 2}
    readings.sort(key=lambda r: (not r.breached, order[r.state]))
    lines = [_budget(r, ascii_only) for r in readings if r.state != "waiting"]
    named = {r.name for r in readings if r.breached}
    lines += [
        Text(
            # What the way back measures is the moment at which all would be back: no share.
            f"Breach   {b.what}: {b.detail}" if b.what == WAY_BACK else
            f"Breach   {b.what}: {format_duration(b.measured)} of {format_duration(b.limit)}",
            style="bold red",
        )
        for b in state.breaches
        if b.what not in named
    ]
    return lines


def _budget(read: BudgetReading, ascii_only: bool) -> Text:
    share = (read.seconds or 0.0) / read.limit if read.limit else 1.0
    style = "red" if read.breached else "yellow" if share > 0.75 else "green"
    line = Text.assemble(("Budget   ", "dim"), bar(share, _BAR, style, ascii_only))
    line.append(f" {format_duration(read.seconds or 0.0)}", style=f"bold {style}")
    line.append(f" of {format_duration(read.limit)}  {read.name}")
    if read.service == "down":
        line.append("  DOWN", style="bold red")
    elif read.service == "unknown":
        line.append("  NOT MEASURED NOW", style="bold yellow")
    if read.unknown >= 0.5:
        line.append(f"  {format_duration(read.unknown)} unknown", style="yellow")
    if read.breached:
        line.append("  BREACHED", style="bold red")
    elif read.state == "closed":
        line.append("  ended", style="dim")
    if read.service in {"down", "unknown"} and read.why:
        line.append(f"  {one_line(read.why)}", style="dim")
    return line


def _footer(glance: Glance, width: int, room: int) -> list[Text]:
    """What people have to do, then what comes next."""
    state = glance.state
    told = advise(state, held=glance.held)
    most = 8 if room >= 28 or any(advice.asked for advice in told) else 4
    lines: list[Text] = []
    for advice in told:
        mark = ("? ", "bold magenta") if advice.asked else ("→ ", "bold")
        # Whole, as the numbers to decide by are often at its end.
        first, *rest = textwrap.wrap(one_line(advice.text), max(width - 2, 20)) or [""]
        texts = [Text.assemble(mark, (first, "bold")),
                 *(Text.assemble("  ", (line, "bold")) for line in rest)]
        command = Text(advice.command, style="bold cyan")
        if not advice.command:
            lines += texts
        elif not rest and texts[0].cell_len + command.cell_len + 3 <= width:
            lines.append(Text.assemble(texts[0], "   ", command))
        else:
            lines += [*texts, Text.assemble("  ", command)]
    lines = lines[:most]
    if state.why and state.phase not in {RunPhase.RUNNING, RunPhase.DONE}:
        words = Text(f"{PHASE_WORD[state.phase]}: ", style=PHASE_STYLE[state.phase])
        lines.insert(0, words.append(one_line(state.why), style="not bold"))
    coming = next_steps(state) if state.phase is RunPhase.RUNNING else []
    if coming:
        names = ", ".join(step.id for step in coming[:3])
        more = f" and {len(coming) - 3} more" if len(coming) > 3 else ""
        lines.append(Text.assemble(("Next     ", "dim"), f"{names}{more}"))
    return [Text(""), *lines] if lines and room >= 20 else lines


def _output(glance: Glance, count: int) -> list[Text]:
    return [
        Text.assemble((f"{node} ", "cyan"), ("│ ", "dim"), one_line(line))
        for node, line in glance.output[-max(count, 1) :]
    ]
