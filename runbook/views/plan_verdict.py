"""Whether a plan fits: its window, its way back, its budgets, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.engine.many import some
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.model.runbook import Probe
from runbook.planning.timeline import Timeline, budget_estimates
from runbook.views.times import day_and_time, plan_zone

_FEW = 6


def verdict_lines(plan: Plan, timeline: Timeline) -> Iterator[tuple[str, str]]:
    """(sentence, style), the critical path first."""
    if not plan.steps:
        yield "There is nothing to do.", "yellow"
        return
    path = timeline.critical_path
    shown = path if len(path) <= 2 * _FEW else (*path[:_FEW], "…", *path[-_FEW:])
    yield f"Critical path: {' → '.join(shown)}", ""
    yield from _window(plan, timeline)
    yield from _way_back(plan, timeline)
    yield from _guesses(plan, timeline)
    for budget, estimate in zip(
        plan.budgets, budget_estimates(plan, timeline).values(), strict=True
    ):
        limit = format_duration(budget.limit)
        if budget.probe is not None:
            yield _probe_words(budget.name, budget.probe, limit), ""
            if estimate is None:
                continue
        if estimate is None:
            yield f"Budget {budget.name}: not measured, a step of it is skipped.", "yellow"
        elif estimate > budget.limit:
            yield (
                f"Budget {budget.name}: {format_duration(estimate)} by estimate, "
                f"MORE than its {limit}."
            ), "bold red"
        else:
            yield f"Budget {budget.name}: {format_duration(estimate)} of {limit}.", "green"


def _probe_words(name: str, probe: Probe, limit: str) -> str:
    where = f"from {probe.host}" if probe.host else "from the controller"
    every = format_duration(probe.every)
    return f"Budget {name}: {limit}, measured by {probe.method} {probe.url} every {every} {where}."


def _window(plan: Plan, timeline: Timeline) -> Iterator[tuple[str, str]]:
    total = format_duration(timeline.total)
    margin = timeline.margin
    if margin is None:
        yield f"It takes {total} by estimate. No window is announced.", ""
        return
    end = day_and_time(timeline.end, plan_zone(plan))
    if margin >= 0:
        unsure, style = _unsure(bool(timeline.guessed))
        left = format_duration(margin)
        yield f"It ends at {end}, {left} before the window closes{unsure}.", style
    else:
        yield (
            f"It does NOT fit the window: it ends at {end}, "
            f"{format_duration(-margin)} after the window closes."
        ), "bold red"
    if timeline.early:
        yield (
            f"Before the window opens: {some(timeline.early, _FEW)} would start. If that is not "
            "meant, give the first of them `not_before: window.start`."
        ), "yellow"


def _way_back(plan: Plan, timeline: Timeline) -> Iterator[tuple[str, str]]:
    longest = format_duration(timeline.longest_back_out)
    late, gone = timeline.too_late_back, timeline.no_way_back
    if late:
        yield late_words(timeline), "bold red"
    elif timeline.window_end is not None:
        unsure, style = _unsure(bool(timeline.guessed or timeline.guessed_back))
        yield (
            f"Going back takes up to {longest} and fits the window from every step"
            f"{' before ' + gone[0] if gone else ''}{unsure}."
        ), style
    else:
        yield f"Going back takes up to {longest}.", ""
    if gone:
        yield f"After {gone[0]} not everything can be taken back.", "yellow"


def late_words(timeline: Timeline) -> str:
    """After which steps going back would end outside the window."""
    return (f"Going back takes up to {format_duration(timeline.longest_back_out)}; after "
            f"{some(timeline.too_late_back, _FEW)} it would end outside the window.")


def _unsure(guessed: bool) -> tuple[str, str]:
    """What is added to a promise, and its style."""
    return (", IF the guess below is right", "bold yellow") if guessed else ("", "green")


def _guesses(plan: Plan, timeline: Timeline) -> Iterator[tuple[str, str]]:
    if timeline.guessed:
        guesses = tuple(
            f"{name} ({format_duration(plan.by_id[name].estimate)})" for name in timeline.guessed
        )
        yield (
            f"A guess is how long is waited by {some(guesses, _FEW)}: what is waited for is not "
            "known offline. A `file:` of the zone tells its TTLs; else say the longest that may "
            "come as the step's `estimate:`."
        ), "yellow"
    if timeline.guessed_back:
        waits = some(timeline.guessed_back, _FEW)
        yield (
            f"A guess is how long is waited on the way back by {waits}: "
            "with which TTLs answers will have been given is not known offline. A `file:` of the "
            "zone tells them."
        ), "yellow"
