"""What a person is told who is asked whether a live run shall start."""

from __future__ import annotations

from datetime import tzinfo

from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.planning.timeline import Slot, Timeline
from runbook.views.plan_verdict import late_words
from runbook.views.times import day_and_time, plan_zone


def question(plan: Plan, timeline: Timeline, *, now: float) -> str:
    """The run in a line, how it stands to its window, and the question. ``timeline``: of a run
    that begins ``now``."""
    nodes = sum(len(step.nodes) for step in plan.steps)
    return "\n".join((
        f"{plan.title or plan.runbook}: {len(plan.steps)} steps, {nodes} nodes, digest "
        f"{plan.digest[:12]}.",
        *_window(plan, timeline, now),
        "This is not a rehearsal. Start?",
    ))


def _window(plan: Plan, timeline: Timeline, now: float) -> list[str]:
    window = plan.window
    if window is None:
        return []
    zone = plan_zone(plan)
    if now > window.end:
        return [f"The window is over since {day_and_time(window.end, zone)}."]
    if now < window.start:
        before = [
            slot for slot in timeline.slots.values()
            if slot.start < window.start and plan.by_id[slot.step].skipped is None
        ]
        lines = [f"The window opens in {format_duration(window.start - now)} "
                 f"({day_and_time(window.start, zone)}); {_start(before, now, zone)}."]
    else:
        lines = [f"The window is open, for another {format_duration(window.end - now)}."]
    if timeline.fits_window is False:
        lines.append("By estimate it does NOT fit the window: it ends at "
                     f"{day_and_time(timeline.end, zone)}.")
    if timeline.too_late_back:
        lines.append(late_words(timeline))
    return lines


def _start(slots: list[Slot], now: float, zone: tzinfo) -> str:
    if not slots:
        return "no step starts before it"
    first = min(slots, key=lambda slot: slot.start)
    when = "now" if first.start <= now else day_and_time(first.start, zone)
    if len(slots) == 1:
        return f"1 step starts before it: {first.step}, {when}"
    return f"{len(slots)} steps start before it, the first, {first.step}, {when}"
