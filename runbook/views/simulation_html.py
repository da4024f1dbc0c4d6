"""A prediction as one HTML page, with the plot. Geometry is reckoned here, drawn by a template."""

from __future__ import annotations

from dataclasses import dataclass

from runbook.engine.simulate.prediction import Prediction, StepOdds
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.views.axis import Axis, Cut, Tick
from runbook.views.pages import environment
from runbook.views.simulation import Moments, basis, odds, verdicts
from runbook.views.times import zone_of

WIDTH = 1120.0
_LABELS, _RIGHT = 210.0, 30.0
_TOP, _PLOT = 34.0, 210.0
_HEAD, _ROW = 46.0, 20.0
_MOST_ROWS = 60
_LONGEST_LABEL = 30
_CLOSE = 96.0


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    x: float
    label: str
    css: str
    anchor: str
    lane: int


@dataclass(frozen=True, slots=True)
class Plot:
    """When the runs end, and until when going back fits."""

    width: float
    height: float
    left: float
    right: float
    base: float
    top: float
    bars: tuple[Rect, ...]
    curve: str
    """Path of the chance that going back still fits; empty without a window."""
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    cuts: tuple[Cut, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Row:
    y: float
    label: str
    full_label: str
    heavy: bool
    range: Rect
    bar: Rect
    weight: float


@dataclass(frozen=True, slots=True)
class Chart:
    """One row a step: from its p5 start to its p95 end, and its middle."""

    width: float
    height: float
    left: float
    row: float
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    cuts: tuple[Cut, ...]
    cut_labels: tuple[str, ...]
    left_out: int


def render_simulation(plan: Plan, prediction: Prediction) -> str:
    """The whole page."""
    say = Moments(prediction)
    return environment().get_template("simulation.html.j2").render(
        p=prediction,
        title=plan.title or plan.runbook,
        say=say,
        span=format_duration,
        odds=odds,
        basis=basis,
        verdicts=list(verdicts(prediction)),
        cards=_cards(prediction, say),
        plot=_plot(prediction, say),
        chart=_chart(prediction, say),
    )


def _cards(p: Prediction, say: Moments) -> list[tuple[str, str, str, str]]:
    """(label, value, remark, tone)."""
    def tone(share: float | None) -> str:
        return "" if share is None else "good" if share >= p.certainty else "bad"

    cards = []
    if p.fits is not None:
        cards.append(("Fits the window", odds(p.fits), f"of {p.runs:,} runs", tone(p.fits)))
    if p.fits_with_back_out is not None:
        cards.append(("Fits with its rollback", odds(p.fits_with_back_out),
                      "from every point that has one", tone(p.fits_with_back_out)))
    if p.decide is not None:
        cards.append(("Decide by", say.short(p.decide.by), f"{odds(p.certainty)} certain", ""))
    if p.dated:
        cards.append(("Ends", say.short(p.end.p50), f"p90 {say.short(p.end.p90)}", ""))
    else:
        cards.append(("Takes", format_duration(p.took.p50),
                      f"p90 {format_duration(p.took.p90)}", ""))
    cards.append(("Longest way back", format_duration(p.back_out.p50),
                  f"p90 {format_duration(p.back_out.p90)}", ""))
    return cards


def _plot(p: Prediction, say: Moments) -> Plot:
    ended = [p.bins[0].start, p.bins[-1].end]
    moments = [*ended, p.end.p50, p.end.p90, p.end.p95]
    if p.window_end is not None:
        moments += [p.window_end, *(m for m, _ in p.return_odds)]
    if p.decide is not None:
        moments.append(p.decide.by)
    if p.window_start is not None and p.window_start <= min(moments):
        moments.append(p.window_start)
    right = WIDTH - _RIGHT
    known = [(moment, share) for moment, share in p.return_odds]
    spread = [(known[0][0], known[-1][0])] if known else []
    axis = Axis(moments, 60.0, right - 60.0, ran=[(ended[0], ended[1])], planned=spread)
    base, top = _TOP + _PLOT, _TOP + 36.0
    most = max((one.share for one in p.bins), default=1.0) or 1.0
    bars = tuple(
        Rect(round(axis.x(one.start), 1),
             round(base - (base - top) * one.share / most, 1),
             round(max(1.0, axis.x(one.end) - axis.x(one.start) - 0.5), 1),
             round((base - top) * one.share / most, 1),
             f"{say.short(one.start)} to {say.short(one.end)}: {odds(one.share)} of the runs")
        for one in p.bins if one.share
    )
    lines: list[tuple[float, str, str]] = [
        (p.end.p50, f"p50 {say.short(p.end.p50)}", "quantile"),
        (p.end.p90, f"p90 {say.short(p.end.p90)}", "quantile"),
    ]
    if p.decide is not None:
        lines.append((p.decide.by, f"decide by {say.short(p.decide.by)}", "turn"))
    if p.window_end is not None:
        lines.append((p.window_end, f"window closes {say.short(p.window_end)}", "window"))
    curve = ""
    if known:
        points = [(60.0, top), *((axis.x(m), base - (base - top) * s) for m, s in known)]
        curve = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Plot(
        WIDTH, base + 34.0, 60.0, right, base, top, bars, curve,
        tuple(_laned(axis, lines)), _ticks(p, axis, say), tuple(axis.cuts), _summary(p, say),
    )


def _laned(axis: Axis, lines: list[tuple[float, str, str]]) -> list[Line]:
    """Labels that would cover each other stand one below the other."""
    placed: list[Line] = []
    for moment, label, css in sorted(lines):
        x = axis.x(moment)
        near = [one.lane for one in placed if abs(one.x - x) < _CLOSE]
        lane = next(n for n in range(len(placed) + 1) if n not in near)
        placed.append(Line(round(x, 1), label, css, "end" if x > WIDTH / 2 else "start", lane))
    return placed


def _ticks(p: Prediction, axis: Axis, say: Moments) -> tuple[Tick, ...]:
    ticks = axis.ticks(zone_of(p.timezone))
    if p.dated:
        return tuple(ticks)
    # Nothing is dated: what would be the time of day counts from the start.
    return tuple(Tick(one.x, one.text, "") for one in ticks)


def _summary(p: Prediction, say: Moments) -> str:
    text = (f"Distribution of the end over {p.runs} runs: half end by {say.full(p.end.p50)}, nine "
            f"in ten by {say.full(p.end.p90)}.")
    if p.decide is not None:
        text += f" Going back fits the window until {say.full(p.decide.by)}."
    return text


def _chart(p: Prediction, say: Moments) -> Chart:
    steps = _shown(p)
    axis = Axis(
        [p.origin, p.end.p95], _LABELS, WIDTH - _LABELS - _RIGHT,
        ran=[(step.start.p50, step.end.p50) for step in steps],
        planned=[(step.start.p05, step.end.p95) for step in steps],
    )
    rows = tuple(
        _row(step, axis, say, _HEAD + number * _ROW) for number, step in enumerate(steps)
    )
    lines: list[tuple[float, str, str]] = []
    for moment, label, css in (
        (p.window_start, "window opens", "window"), (p.window_end, "window closes", "window"),
        (None if p.decide is None else p.decide.by, "decide by", "turn"),
    ):
        if moment is not None and p.origin <= moment <= p.end.p95:
            lines.append((moment, label, css))
    return Chart(
        WIDTH, _HEAD + _ROW * len(rows) + 10.0, _LABELS, _ROW, rows, tuple(_laned(axis, lines)),
        _ticks(p, axis, say), tuple(axis.cuts),
        tuple(format_duration(cut.seconds) for cut in axis.cuts),
        len(p.steps) - len(steps),
    )


def _shown(p: Prediction) -> list[StepOdds]:
    """All steps, or those that decide the end most often."""
    if len(p.steps) <= _MOST_ROWS:
        return list(p.steps)
    chosen = sorted(p.steps, key=lambda s: s.critical, reverse=True)[:_MOST_ROWS]
    return [step for step in p.steps if step in chosen]


def _row(step: StepOdds, axis: Axis, say: Moments, y: float) -> Row:
    label = step.id
    if len(label) > _LONGEST_LABEL:
        label = label[: _LONGEST_LABEL - 1] + "…"
    title = (f"{step.id}: starts {say.short(step.start.p50)} (p5 {say.short(step.start.p05)}), "
             f"ends {say.short(step.end.p50)} (p95 {say.short(step.end.p95)}); decides the end in "
             f"{odds(step.critical)}")

    def rect(start: float, end: float, top: float, height: float) -> Rect:
        x = axis.x(start)
        return Rect(round(x, 1), y + top, round(max(2.0, axis.x(end) - x), 1), height, title)

    return Row(
        y, label, step.id, step.critical >= 0.5,
        rect(step.start.p05, step.end.p95, _ROW * 0.3, _ROW * 0.3),
        rect(step.start.p50, step.end.p50, _ROW * 0.15, _ROW * 0.6),
        round(0.35 + 0.65 * step.critical, 2),
    )
