"""How a report's numbers are written; the same in Markdown and in HTML."""

from __future__ import annotations

from datetime import UTC

from runbook.engine.report_model import (
    BudgetLine,
    DecisionLine,
    Forecast,
    LateLine,
    Report,
    StepLine,
)
from runbook.engine.simulate.foretold import Came
from runbook.model.duration import format_duration
from runbook.model.state import NodeState
from runbook.views.times import at, zone_of
from runbook.views.words import PHASE_WORD, STATE_WORD, given_outputs, level_word

NONE = "–"


class ReportWords:
    """Formats the moments of one report in its own zone."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._zone = zone_of(report.timezone)
        end = report.ended_at if report.ended_at is not None else report.written_at
        known = [end if report.started_at is None else report.started_at, end]
        days = {at(t, self._zone).date() for t in known}
        self._one_day = len(days) == 1

    def full(self, ts: float | None) -> str:
        """``Sat 12 Sep 2009 01:23:45 EDT``."""
        if ts is None:
            return NONE
        return f"{at(ts, self._zone):%a %d %b %Y %H:%M:%S %Z}".rstrip()

    def clock(self, ts: float | None) -> str:
        """The time of day, with the day where the run spans several."""
        if ts is None:
            return NONE
        moment = at(ts, self._zone)
        return f"{moment:%H:%M:%S}" if self._one_day else f"{moment:%a %d %b %H:%M:%S}"

    def day(self, ts: float | None) -> str:
        """``Sat 12 Sep 2009``; empty where the whole run is on one day, or there is no moment."""
        if ts is None or self._one_day:
            return ""
        return f"{at(ts, self._zone):%a %d %b %Y}"

    def time_on(self, day: str, ts: float | None) -> str:
        """The time of day under a heading that names ``day``; with its date on any other day."""
        if ts is None or self.day(ts) == day:
            return NONE if ts is None else f"{at(ts, self._zone):%H:%M:%S}"
        return f"{at(ts, self._zone):%d %b %H:%M:%S}"

    def state(self, step: StepLine) -> str:
        """Nothing is still to come in a run that has ended."""
        if step.state is NodeState.PENDING and self._report.ended_at is not None:
            return "not reached"
        return STATE_WORD[step.state]

    def step_days(self) -> list[tuple[str, list[StepLine]]]:
        """The steps in their order, under the day they started on (or should have)."""
        groups: list[tuple[str, list[StepLine]]] = []
        for step in self._report.steps:
            moment = step.started_at if step.started_at is not None else step.planned_start
            day = self.day(moment)
            if not groups or (day and day != groups[-1][0]):
                groups.append((day, []))
            groups[-1][1].append(step)
        return groups

    def came(self, came: Came) -> tuple[str, str, str, str, str]:
        """p5, p50, p90, p95 and what came, each as a moment or as a length."""
        q = came.foretold
        write = self.clock if came.what == "end" else span
        return write(q.p05), write(q.p50), write(q.p90), write(q.p95), write(came.actual)

    def facts(self) -> list[tuple[str, str]]:
        """The head of the report: label and value."""
        r = self._report
        facts = [
            ("Run", r.run_id),
            ("Kind of run", level_word(r.level)),
            ("State", PHASE_WORD[r.phase]),
            ("Started", f"{self.full(r.started_at)}{f' by {r.who}' if r.who else ''}"),
            ("Ended", self.full(r.ended_at)),
            ("Took", f"{span(r.seconds)} (planned {span(r.planned_seconds)})"),
        ]
        if r.window_start is not None and r.window_end is not None:
            kept = {True: ", kept", False: ", overrun", None: ""}[r.inside_window]
            length = span(r.window_end - r.window_start)
            facts.append(("Window", f"{self.full(r.window_start)}, {length}{kept}"))
        if r.owner:
            facts.append(("Owner", r.owner))
        if r.why:
            facts.append(("Why", r.why))
        return facts


def span(seconds: float | None) -> str:
    return NONE if seconds is None else format_duration(seconds)


def came_what(came: Came) -> str:
    return {"end": "End", "took": "Took", "way back": f"Way back from {came.step}"}[came.what]


def came_verdict(came: Came) -> str:
    if came.inside:
        return "as foretold" if came.in_time else "between p90 and p95"
    return "later than p95" if came.actual > came.foretold.p95 else "sooner than p5"


def forecast_words(forecast: Forecast) -> str:
    """Who had foretold it from what, and whether such predictions can be trusted."""
    made = (f"Foretold by {forecast.who} on {at(forecast.made_at, UTC):%d %b %Y %H:%M} UTC, from "
            f"{forecast.runs:,} simulated runs.")
    past = forecast.earlier
    if not past.numbers:
        return f"{made} No earlier prediction can be held against it."
    return (f"{made} Earlier predictions: of {past.numbers} numbers {past.inside} came between p5 "
            f"and p95, {past.in_time} no later than p90; nine in ten should.")


def hosts(step: StepLine) -> str:
    return f"{step.hosts_done}/{step.hosts}" if step.hosts else ""


def delta(step: StepLine) -> str:
    """How far the step was off its estimate, e.g. ``+12s``; empty when it did not run."""
    if step.seconds is None or step.state is NodeState.SKIPPED:
        return ""
    off = step.seconds - step.estimate
    if abs(off) < 0.5:
        return "±0s"
    return f"{'+' if off > 0 else ''}{format_duration(off)}"


def budget_result(line: BudgetLine) -> str:
    if line.seconds is None:
        return "nobody asked" if line.probe else "did not begin"
    text = span(line.seconds)
    if line.probe:
        return probe_result(line)
    if line.by_rollback:
        text += ", ended by the rollback"
    if line.breached:
        return f"{text}: BREACHED"
    return f"{text}, not ended" if line.state == "running" else f"{text}: kept"


def probe_result(line: BudgetLine) -> str:
    """What a client outside met."""
    many = f" in {line.outages} outages" if line.outages > 1 else ""
    longest = ", the longest" if line.counts == "longest" and line.outages > 1 else ""
    parts = [f"{span(line.seconds)}{longest or many} out of service"]
    if line.unknown >= 0.5:
        parts.append(f"{span(line.unknown)} unknown, as nobody measured")
    parts.append(f"{line.failed:,} of {line.samples:,} requests failed")
    if line.service == "down":
        parts.append(f"down now ({line.why})")
    verdict = "BREACHED" if line.breached else "kept" if line.state == "closed" else "so far"
    return f"{'; '.join(parts)}: {verdict}"


def budget_begin(line: BudgetLine, when: str) -> str:
    if line.probe:
        return f"{line.probe}, {when}"
    return f"{line.from_edge} {when}"


def budget_end(line: BudgetLine, when: str) -> str:
    """The edge that ended it, and when."""
    if line.probe:
        return when
    if line.by_rollback:
        return f"undo of {line.from_edge.rpartition('.')[0]} {when}"
    return f"{line.to_edge} {when}"


def late_words(line: LateLine) -> str:
    """The arithmetic of a refused step."""
    first = (f"{span(line.busy)} until what is at work has ended" if line.busy > line.takes
             else f"{span(line.takes)} for the step ({line.takes_by})")
    return (f"{first} + {span(line.back)} to go back ({line.back_by}) + {span(line.safety)} to "
            f"spare: {span(line.over)} too late")


def late_verdict(line: LateLine) -> str:
    word = {"ask": "asked", "shown": "shown only"}.get(line.action, line.action)
    by = f" by {line.who}" if line.who else ""
    return f"{word}{by}{f': {line.why}' if line.why else ''}"


def decider(line: DecisionLine) -> str:
    return f"{line.who} ({line.role})" if line.role else line.who


def decision_reason(line: DecisionLine) -> str:
    evidence = f"evidence: {line.evidence}" if line.evidence else ""
    return "; ".join(part for part in (line.why, evidence, given_outputs(line.outputs)) if part)
