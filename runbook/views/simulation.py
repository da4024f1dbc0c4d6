"""What a simulation foretells, for a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from runbook.engine.simulate.prediction import Prediction, Quantiles, StepOdds
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.times import at, day_and_time, zone_of
from runbook.views.words import to_ascii

BASIS_WORD = {"as the doing": "measured"}


class Moments:
    """Writes the moments of one prediction: in the window's zone, or from the start."""

    def __init__(self, prediction: Prediction) -> None:
        self._dated = prediction.dated
        self._zone = zone_of(prediction.timezone)
        day = prediction.window_start if prediction.window_start is not None else prediction.origin
        self._day = at(day, self._zone).date()

    def short(self, moment: float) -> str:
        """``01:23:45``, with the date on another day than the window's; ``T+3m`` undated."""
        if not self._dated:
            return f"T+{format_duration(moment).replace(' ', '')}"
        local = at(moment, self._zone)
        return f"{local:%H:%M:%S}" if local.date() == self._day else f"{local:%d %b %H:%M}"

    def full(self, moment: float) -> str:
        return day_and_time(moment, self._zone) if self._dated else self.short(moment)


def odds(share: float | None) -> str:
    """``99.4 %``; never rounded to certainty."""
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.0f} %" if share in {0, 1} else f"{100 * share:.1f} %"


def basis(step: StepOdds) -> str:
    """``measured ×3``, ``estimate``."""
    word = BASIS_WORD.get(step.basis, step.basis)
    return f"{word} ×{step.samples}" if step.samples else word


def verdicts(p: Prediction) -> Iterator[tuple[str, str]]:
    """(sentence, tone: good, bad, mixed or empty), the most important first."""
    say = Moments(p)
    failing = _failing(p)
    if failing is not None and not p.ok:
        yield failing, "bad"
    which = "the runs" if failing is None else "those in which nothing fails"
    if p.fits is None:
        yield (f"It takes {format_duration(p.took.p50)} as often as not, and nine times in ten no "
               f"more than {format_duration(p.took.p90)}. No window is announced."), ""
    if p.fits is not None and p.window_end is not None:
        left = p.window_end - p.end.p90
        margin = f"nine times in ten with {format_duration(left)} to spare" if left >= 0 else (
            f"one time in ten later than {format_duration(-left)} after it has closed")
        yield (f"The move fits its window, which closes at {say.full(p.window_end)}, in "
               f"{odds(p.fits)} of {which}: {margin}."), "good" if p.fits >= p.certainty else "bad"
    if p.fits_with_back_out is not None:
        worst = min(
            (s for s in p.steps if s.back_in_time is not None),
            key=lambda s: s.back_in_time or 0.0, default=None,
        )
        where = f"; least from the end of {worst.id}: {odds(worst.back_in_time)}" if (
            worst is not None and (worst.back_in_time or 0.0) < 1) else ""
        yield (f"From every point that has a way back it also fits with its rollback in "
               f"{odds(p.fits_with_back_out)}{where}."), (
            "good" if p.fits_with_back_out >= p.certainty else "bad")
    if p.decide is not None:
        why = "" if p.decide.limit == "window" else (
            f": then {p.decide.limit} begins, and there is no way back")
        yield (f"Decide by {say.full(p.decide.by)} ({odds(p.certainty)} certain; as often as not "
               f"{say.short(p.decide.middle)} would do){why}."), ""
    if failing is not None and p.ok:
        yield failing, "mixed"
    for budget in p.budgets:
        yield (f"Budget {budget.name}: kept in {odds(budget.kept)}; p90 "
               f"{format_duration(budget.takes.p90)} of {format_duration(budget.limit)}."), (
            "good" if budget.kept >= p.certainty else "bad")


def _failing(p: Prediction) -> str | None:
    """What becomes of the runs where failures are reckoned with; None where nothing fails."""
    o = p.outcomes
    if not (o.back_in_window or o.back_late or o.held):
        return None
    parts = [
        (o.done_late, "done too late"), (o.back_in_window, "failed and taken back"),
        (o.back_late, "failed and taken back too late"), (o.held, "failed and held for a person"),
    ]
    told = "".join(f", {words} {odds(share)}" for share, words in parts if share)
    inside = "" if p.fits is None else " in the window"
    return f"With failures: done{inside} {odds(o.done_in_window)}{told}."


_STYLE = {"good": "green", "bad": "bold red", "mixed": "yellow", "": ""}
_FEW = 40


def show_simulated(
    plan: Plan, prediction: Prediction, *, page: Path | None, as_json: bool
) -> None:
    """Result of a rehearsal of level *simulate*."""
    if as_json:
        told = {"ok": prediction.ok, **prediction.model_dump(mode="json")}
        import json

        print(json.dumps({**told, "level": "simulate", "for": prediction.level}))  # noqa: T201
        return
    _View(plan, prediction).show(page)


class _View:
    def __init__(self, plan: Plan, prediction: Prediction) -> None:
        self._plan = plan
        self._p = prediction
        self._console = plain_console()
        self._say = Moments(prediction)
        self._ascii = ascii_only(self._console)

    def show(self, page: Path | None) -> None:
        p = self._p
        title = self._plan.title or self._plan.runbook
        self._line(f"Simulated {p.runs:,} times (seed {p.seed}), as a {p.level} run: {title}",
                   "bold")
        self._console.print()
        self._console.print(self._quantiles(), soft_wrap=False)
        self._console.print()
        for line, tone in verdicts(p):
            self._line(line, _STYLE[tone])
        self._console.print()
        self._console.print(self._steps(), soft_wrap=False)
        if len(self._shown()) < len(p.steps):
            self._line(f"and {len(p.steps) - len(self._shown())} steps that hardly ever decide the "
                       "end (--json has all)", "dim")
        self._line("starts, takes: p50. decides: how often it decided the end. if half: how much "
                   "earlier the p90 of the end, took it half as long. way back: p90, from its end; "
                   "in time: how often inside the window.", "dim")
        self._console.print()
        for line in p.assumptions:
            self._line(f"assumed: {line}", "dim")
        if p.slots_bind:
            self._line(f"at most {self._plan.policy.max_parallel} nodes work at a time, and some "
                       "have to wait for that", "dim")
        where = f" Page: {page}" if page is not None else " --out FILE.html draws it."
        self._line(f"Recorded under digest {p.digest[:12]}.{where}", "dim")

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(self._text(text, style))

    def _text(self, text: str, style: str = "") -> Text:
        return Text(to_ascii(text) if self._ascii else text, style=style)

    def _quantiles(self) -> Table:
        table = Table.grid(padding=(0, 3))
        table.add_column(style="dim", no_wrap=True)
        for _ in range(4):
            table.add_column(justify="right", no_wrap=True)
        table.add_row("", "p5", "p50", "p90", "p95", style="dim")
        p = self._p
        rows: list[tuple[str, Quantiles, bool]] = [("ends", p.end, True)] if p.dated else []
        rows += [("takes", p.took, False), ("longest way back", p.back_out, False)]
        for label, q, moment in rows:
            write = self._say.short if moment else format_duration
            table.add_row(label, *(write(one) for one in (q.p05, q.p50, q.p90, q.p95)))
        return table

    def _shown(self) -> list[StepOdds]:
        steps = list(self._p.steps)
        if len(steps) <= _FEW:
            return steps
        chosen = sorted(steps, key=lambda s: (s.gain or 0.0, s.critical), reverse=True)[:_FEW]
        return [step for step in steps if step in chosen]

    def _steps(self) -> Table:
        windowed = self._p.window_end is not None
        table = Table.grid(padding=(0, 1))
        table.add_column(overflow="fold")
        heads = ["starts", "takes", "decides", "if half", "way back"]
        heads += ["in time"] if windowed else []
        for _ in heads:
            table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_row("step", *heads, "from", style="dim")
        for step in self._shown():
            cells = [
                self._say.short(step.start.p50), format_duration(step.takes.p50),
                odds(step.critical) if step.critical else "",
                f"-{format_duration(step.gain)}" if step.gain and step.gain >= 0.05 else "",
                format_duration(step.back_out.p90) if not step.no_way_back else "none",
            ]
            if windowed:
                cells.append("" if step.no_way_back else odds(step.back_in_time))
            table.add_row(
                self._text(step.id, "bold" if step.critical >= 0.5 else ""),
                *map(self._text, cells), self._text(basis(step)),
            )
        return table
