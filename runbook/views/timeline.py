"""The timeline of a report as geometry: what stands where. The template draws it as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from runbook.engine.report_model import Report, StepLine
from runbook.model.duration import format_duration
from runbook.model.state import NodeState
from runbook.views.axis import Axis, Cut, Span, Tick
from runbook.views.report_words import ReportWords, decider
from runbook.views.times import zone_of

WIDTH = 1120.0
_LABELS = 210.0
_RIGHT = 30.0
_HEAD = 76.0
_ROW, _DENSE_ROW = 26.0, 17.0
_DENSE_FROM = 50
_LONGEST_LABEL = 30

_CLASS: dict[NodeState, str] = {
    NodeState.FAILED: "bad", NodeState.ERRORED: "warn", NodeState.IN_DOUBT: "doubt",
    NodeState.STARTED: "going", NodeState.APPLIED: "going", NodeState.SKIPPED: "skip",
}
_UNDO_CLASS: dict[NodeState, str] = {
    NodeState.ROLLBACK_FAILED: "bad", NodeState.IRREVERSIBLE: "bad", NodeState.UNDOING: "going",
}


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    css: str
    title: str
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    y: float
    label: str
    full_label: str
    critical: bool
    planned: Bar | None
    actual: Bar | None
    undo: Bar | None


@dataclass(frozen=True, slots=True)
class Band:
    """A budget's interval: a freeze, an outage."""

    x: float
    width: float
    lane: int
    label: str
    breached: bool


@dataclass(frozen=True, slots=True)
class Marker:
    """A decision (in the head) or an incident (in its step's row)."""

    x: float
    title: str
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    x: float
    label: str
    css: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Timeline:
    width: float
    height: float
    left: float
    head: float
    row: float
    bar: float
    summary: str
    rows: tuple[Row, ...]
    bands: tuple[Band, ...]
    decisions: tuple[Marker, ...]
    incidents: tuple[Marker, ...]
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    cuts: tuple[Cut, ...]
    cut_labels: tuple[str, ...]
    scale_note: str
    """Where the drawing is not to scale; empty where it is."""
    links: tuple[str, ...]
    """Paths between the bars of the critical path."""


def build_timeline(report: Report) -> Timeline | None:
    """None for a run that never started."""
    if report.started_at is None:
        return None
    say = ReportWords(report)
    end = report.ended_at if report.ended_at is not None else report.written_at
    bands = [b for b in report.budgets if b.since is not None and not b.probe]
    head = _HEAD + 16.0 * len(bands)
    row = _ROW if len(report.steps) < _DENSE_FROM else _DENSE_ROW
    critical = {(link.step, link.op) for link in report.critical_path}
    axis = Axis(
        _moments(report, end), _LABELS, WIDTH - _LABELS - _RIGHT,
        ran=_ran(report, end), planned=_planned(report),
    )
    rows = tuple(
        _row(step, axis, say, head + i * row, end, critical)
        for i, step in enumerate(report.steps)
    )
    return Timeline(
        width=WIDTH,
        height=head + row * len(rows) + 10.0,
        left=_LABELS,
        head=head,
        row=row,
        bar=row * 0.5,
        summary=_summary(report),
        rows=rows,
        bands=tuple(
            Band(axis.x(b.since or 0.0),
                 max(2.0, axis.x(b.until if b.until is not None else end) - axis.x(b.since or 0.0)),
                 lane, f"{b.name.replace('_', ' ')} {format_duration(b.seconds or 0.0)}",
                 b.breached)
            for lane, b in enumerate(bands)
        ),
        decisions=tuple(
            Marker(axis.x(d.ts), " ".join(
                part for part in (say.clock(d.ts), f"{decider(d)}:", d.verb, d.node,
                                  f"– {d.why}" if d.why else "") if part))
            for d in report.decisions
        ),
        incidents=tuple(_incidents(report, axis, say, rows, row)),
        lines=tuple(_lines(report, axis, end)),
        ticks=tuple(axis.ticks(zone_of(report.timezone))),
        cuts=tuple(axis.cuts),
        cut_labels=tuple(format_duration(cut.seconds) for cut in axis.cuts),
        scale_note=_scale_note(axis),
        links=tuple(_links(report, axis, rows, row)),
    )


def _ran(report: Report, end: float) -> list[Span]:
    spans = []
    for step in report.steps:
        for start, stop in ((step.started_at, step.ended_at),
                            (step.undo_started_at, step.undo_ended_at)):
            if start is not None:
                spans.append((start, stop if stop is not None else max(start, end)))
    return spans


def _planned(report: Report) -> list[Span]:
    return [
        (step.planned_start, step.planned_end) for step in report.steps
        if step.planned_start is not None and step.planned_end is not None
    ]


def _moments(report: Report, end: float) -> list[float]:
    started = end if report.started_at is None else report.started_at
    return [started, end, *(d.ts for d in report.decisions)]


def _scale_note(axis: Axis) -> str:
    notes = []
    if axis.cuts:
        notes.append("hatched stretches of waiting are cut short, their true length is written "
                     "in them")
    if axis.widened_below:
        notes.append(f"steps shorter than {format_duration(axis.widened_below)} are drawn wider "
                     "than they were")
    text = "; ".join(notes)
    return f"Not to scale: {text}." if text else ""


def _row(
    step: StepLine, axis: Axis, say: ReportWords, y: float, end: float,
    critical: set[tuple[str, Literal["do", "undo"]]],
) -> Row:
    label = step.id
    if len(label) > _LONGEST_LABEL:
        label = label[: _LONGEST_LABEL - 1] + "…"
    name = f"{step.id}: {step.title}" if step.title else step.id
    planned = None
    if step.planned_start is not None and step.planned_end is not None:
        planned = _bar(axis, step.planned_start, step.planned_end, "plan",
                       f"planned {say.clock(step.planned_start)}, "
                       f"{format_duration(step.estimate)}")
    actual = undo = None
    if step.started_at is not None:
        stop = step.ended_at if step.ended_at is not None else end
        took = format_duration(max(0.0, stop - step.started_at))
        css = _CLASS.get(step.forward, "done")
        actual = _bar(axis, step.started_at, stop, css,
                      f"{name} – {say.state(step)}, {say.clock(step.started_at)}, took {took}",
                      (step.id, "do") in critical)
    if step.undo_started_at is not None:
        stop = step.undo_ended_at if step.undo_ended_at is not None else end
        took = format_duration(stop - step.undo_started_at)
        undo = _bar(axis, step.undo_started_at, stop, _UNDO_CLASS.get(step.state, "undo"),
                    f"{name} – undo, {say.clock(step.undo_started_at)}, took {took}",
                    (step.id, "undo") in critical)
    return Row(y, label, name, step.critical, planned, actual, undo)


def _bar(
    axis: Axis, start: float, end: float, css: str, title: str, critical: bool = False
) -> Bar:
    x = axis.x(start)
    return Bar(round(x, 1), round(max(2.0, axis.x(end) - x), 1), css, title, critical)


def _incidents(
    report: Report, axis: Axis, say: ReportWords, rows: tuple[Row, ...], row: float
) -> list[Marker]:
    place = {step.id: rows[i].y + row * 0.39 for i, step in enumerate(report.steps)}
    return [
        Marker(axis.x(i.ts), f"{say.clock(i.ts)} {i.node}: {i.kind.replace('_', ' ')}, {i.error}",
               place[i.node.partition("@")[0]])
        for i in report.incidents
    ]


def _lines(report: Report, axis: Axis, end: float) -> list[Line]:
    lines = []
    if report.rollback is not None:
        lines.append(_line(axis.x(report.rollback.started_at), "rollback", "turn"))
    last = max([*_moments(report, end), *(stop for _, stop in _planned(report))])
    for moment, label in (
        (report.window_start, "window opens"), (report.window_end, "window closes"),
    ):
        if moment is not None and (report.started_at or 0.0) <= moment <= last:
            lines.append(_line(axis.x(moment), label, "window"))
    return lines


def _line(x: float, label: str, css: str) -> Line:
    return Line(round(x, 1), label, css, "end" if x > WIDTH - 120 else "start")


def _links(report: Report, axis: Axis, rows: tuple[Row, ...], row: float) -> list[str]:
    """Elbows from the end of each link of the critical path to the start of the next."""
    place = {step.id: rows[i].y + row * 0.4 for i, step in enumerate(report.steps)}
    paths = []
    for one, two in pairwise(report.critical_path):
        if one.end is None:
            continue
        x1, x2 = axis.x(one.end), axis.x(two.start)
        y1, y2 = place[one.step], place[two.step]
        paths.append(f"M{x1:.1f} {y1:.1f}H{x2:.1f}V{y2:.1f}")
    return paths


def _summary(report: Report) -> str:
    shown = sum(step.started_at is not None for step in report.steps)
    chain = ", ".join(
        f"{'undo of ' if link.op == 'undo' else ''}{link.step}" for link in report.critical_path
    )
    return (
        f"Timeline of {shown} of {len(report.steps)} steps, planned against actual. "
        f"What decided the end: {chain or 'nothing yet'}. The table of steps holds the numbers."
    )
