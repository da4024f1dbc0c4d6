"""A plan, for a terminal and as JSON: what would be done, in which order, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runbook.model.dns import Change, RRset
from runbook.model.duration import format_duration
from runbook.model.plan import Plan, PlannedStep
from runbook.planning.preview import Doing, StepPreview
from runbook.planning.timeline import Slot, Timeline
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.plan_verdict import verdict_lines
from runbook.views.times import day_and_time, plan_zone, zone_of
from runbook.views.words import to_ascii

_FEW = 3
"""Shown of what is many, unless all is wanted."""


@dataclass(frozen=True, slots=True)
class Detail:
    """``hosts``: name every host. ``full``: leave nothing out, checks included."""

    hosts: bool = False
    full: bool = False


def show_plan(
    plan: Plan, timeline: Timeline, previews: Mapping[str, StepPreview], *,
    detail: Detail | None = None, console: Console | None = None,
) -> None:
    """Print a plan. Standard output, unless a console is given."""
    view = _PlanView(plan, timeline, previews, detail or Detail(), console or plain_console())
    view.show()


class _PlanView:
    def __init__(
        self, plan: Plan, timeline: Timeline, previews: Mapping[str, StepPreview],
        detail: Detail, console: Console,
    ) -> None:
        self._plan = plan
        self._timeline = timeline
        self._previews = previews
        self._detail = detail
        self._console = console
        self._ascii = ascii_only(console)

    def show(self) -> None:
        self._print(self._header())
        self._console.print()
        self._print(self._steps())
        self._console.print()
        for line, style in verdict_lines(self._plan, self._timeline):
            self._print(self._text(line, style))

    def _print(self, thing: Table | Text) -> None:
        self._console.print(thing, soft_wrap=False)

    def _text(self, text: str, style: str = "") -> Text:
        shown = "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
        return Text(to_ascii(shown) if self._ascii else shown, style=style, overflow="fold")

    def _header(self) -> Table:
        plan = self._plan
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        title = f"{plan.title}  ({plan.runbook})" if plan.title else plan.runbook
        table.add_row(self._text("Plan"), self._text(title, "bold"))
        for label, text in self._window_rows():
            table.add_row(self._text(label), self._text(text))
        nodes = sum(len(step.nodes) for step in plan.steps)
        hosts = len({node.host for step in plan.steps for node in step.nodes if node.host})
        counts = f"{_count(len(plan.steps), 'step')}, {_count(nodes, 'node')}, " + _count(
            hosts, "host"
        )
        table.add_row(self._text("Size"), self._text(counts))
        if plan.owner:
            table.add_row(self._text("Owner"), self._text(plan.owner))
        table.add_row(self._text("Digest"), self._text(plan.digest[:16]))
        return table

    def _window_rows(self) -> Iterator[tuple[str, str]]:
        window = self._plan.window
        if window is None:
            yield "Window", "none announced"
            return
        zones = list(dict.fromkeys((window.timezone, *window.announce_in)))
        for index, name in enumerate(zones):
            zone = zone_of(name)
            start = day_and_time(window.start, zone)
            text = f"{start} to {day_and_time(window.end, zone)}"
            same_day = start[:15] == day_and_time(window.end, zone)[:15]
            if same_day:
                text = f"{start} to {day_and_time(window.end, zone)[16:]}"
            length = f", {format_duration(window.duration)}" if not index else ""
            yield ("Window" if not index else ""), text + length

    def _steps(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(overflow="fold", ratio=1)
        table.add_row("#", "", "start", "takes", "step")
        beside = {name for level in self._timeline.levels if len(level) > 1 for name in level}
        for number, step in enumerate(self._plan.steps, 1):
            slot = self._timeline.slots[step.id]
            skipped = step.skipped is not None
            table.add_row(
                str(number),
                self._marks(slot, step.id in beside),
                "" if skipped else self._start(slot),
                "" if skipped else self._takes(step),
                self._body(step),
            )
        return table

    def _marks(self, slot: Slot, beside: bool) -> Text:
        critical, parallel = ("*", "|") if self._ascii else ("●", "∥")
        marks = Text()
        marks.append(critical if slot.critical else " ", "bold red")
        marks.append(parallel if beside else " ", "cyan")
        return marks

    def _start(self, slot: Slot) -> str:
        base = self._timeline.window_start
        seconds = slot.start - (self._timeline.origin if base is None else base)
        sign = "-" if seconds < 0 else "+"
        return f"T{sign}{format_duration(float(round(abs(seconds)))).replace(' ', '')}"

    def _takes(self, step: PlannedStep) -> str:
        about = "~" if step.id in self._timeline.guessed else ""
        return about + format_duration(self._timeline.slots[step.id].takes)

    def _body(self, step: PlannedStep) -> Group:
        body = Text(overflow="fold")
        hosts = [node.host for node in step.nodes if node.host]
        body.append_text(self._text(step.id, "dim" if step.skipped is not None else "bold"))
        told = f"  {step.kind}"
        if hosts:
            told += f" on {_count(len(hosts), 'host')}"
            if step.ramp:
                told += ", " + ", then ".join(map(str, (*step.ramp, step.batch))) + " at a time"
            elif step.batch is not None and step.batch < len(hosts):
                told += f", {step.batch} at a time"
        body.append_text(self._text(told, "cyan" if step.skipped is None else "dim"))
        if step.title:
            body.append_text(self._text(f"\n{step.title}", "italic"))
        return Group(body, *(self._indented(line, style) for line, style in self._lines(step)))

    def _indented(self, line: str, style: str) -> Padding:
        """A line whose continuation, where it is too long, stands under its beginning."""
        text = line.lstrip(" ")
        return Padding(self._text(text, style), (0, 0, 0, len(line) - len(text)))

    def _lines(self, step: PlannedStep) -> Iterator[tuple[str, str]]:
        if step.skipped is not None:
            yield f"skipped: {step.skipped}", "dim"
            return
        found = self._previews[step.id]
        if found.when is not None:
            yield f"only when {found.when}", "yellow"
        if step.not_before is not None:
            moment = day_and_time(step.not_before, plan_zone(self._plan))
            yield f"not before {moment}", ""
        if step.at is not None:
            yield f"at {day_and_time(step.at, plan_zone(self._plan))}", ""
        shown = found.doings if self._detail.full else found.doings[:_FEW]
        for doing in shown:
            yield from self._doing(doing, many=len(found.doings) > 1)
        if len(shown) < len(found.doings):
            yield f"… and {len(found.doings) - len(shown)} more hosts (--full)", "dim"
        for change in found.changes if self._detail.full else found.changes[: 4 * _FEW]:
            yield from _change_lines(change)
        if not self._detail.full and len(found.changes) > 4 * _FEW:
            yield f"… and {len(found.changes) - 4 * _FEW} more record sets (--full)", "dim"
        for warning in found.warnings:
            yield f"warning: {warning}", "bold yellow"
        if found.late:
            told = ", ".join(f"{output} of {name}" for name, output in found.late)
            yield f"filled in when it starts: {told}", "magenta"
        if step.point_of_no_return:
            yield "POINT OF NO RETURN", "bold red"
        if step.irreversible is not None:
            yield f"cannot be taken back: {step.irreversible}", "bold red"

    def _doing(self, doing: Doing, *, many: bool) -> Iterator[tuple[str, str]]:
        if doing.hosts and (many or self._detail.hosts or len(doing.hosts) <= _FEW):
            everyone = self._detail.hosts or self._detail.full or len(doing.hosts) <= _FEW
            names = ", ".join(doing.hosts if everyone else doing.hosts[:_FEW])
            more = "" if everyone else f", … ({len(doing.hosts)})"
            yield f"{names}{more}:", "dim"
        if self._detail.full:
            yield from ((f"  requires {check}", "blue") for check in doing.requires)
        for line in doing.lines:
            rows = line.splitlines() or [""]
            for row in rows if self._detail.full else rows[: 2 * _FEW]:
                yield f"  {row}", ""
            if not self._detail.full and len(rows) > 2 * _FEW:
                yield f"  … {len(rows) - 2 * _FEW} more lines (--full)", "dim"
        checks = doing.verify if self._detail.full else doing.verify[:_FEW]
        yield from ((f"  verify {check}", "green") for check in checks)
        if len(checks) < len(doing.verify):
            yield f"  … {len(doing.verify) - len(checks)} more checks (--full)", "dim"
        if doing.undo is not None and self._detail.full:
            yield f"  undo $ {doing.undo}", "yellow"


def _change_lines(change: Change) -> Iterator[tuple[str, str]]:
    if change.before is not None:
        yield f"  − {change.before}", "red"
    if change.after is not None:
        yield f"  + {change.after}", "green"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def plan_json(
    plan: Plan, timeline: Timeline, previews: Mapping[str, StepPreview]
) -> dict[str, Any]:
    """The same for programs. Moments are Unix seconds (or seconds from the start where nothing
    is dated), durations seconds."""
    from runbook.planning.timeline import budget_estimates

    window = plan.window
    return {
        "runbook": plan.runbook,
        "title": plan.title,
        "owner": plan.owner,
        "digest": plan.digest,
        "window": None if window is None else {
            "start": window.start, "end": window.end, "timezone": window.timezone,
            "announce_in": list(window.announce_in),
        },
        "steps": [
            _step_json(step, timeline.slots[step.id], previews[step.id])
            for step in plan.steps
        ],
        "critical_path": list(timeline.critical_path),
        "levels": [list(level) for level in timeline.levels],
        "fit": {
            "dated": timeline.dated,
            "start": timeline.origin,
            "end": timeline.end,
            "total": timeline.total,
            "margin": timeline.margin,
            "fits_window": timeline.fits_window,
            "fits_with_back_out": timeline.fits_with_back_out,
            "longest_back_out": timeline.longest_back_out,
            "too_late_back": list(timeline.too_late_back),
            "no_way_back": list(timeline.no_way_back),
            "before_window": list(timeline.early),
            "guessed": list(timeline.guessed),
            "guessed_back": list(timeline.guessed_back),
        },
        "budgets": [
            {"name": budget.name, "limit": budget.limit, "estimate": estimate}
            for budget, estimate in zip(
                plan.budgets, budget_estimates(plan, timeline).values(), strict=True
            )
        ],
    }


def _step_json(
    step: PlannedStep, slot: Slot, found: StepPreview
) -> dict[str, Any]:
    return {
        "id": step.id,
        "kind": step.kind,
        "title": step.title,
        "after": list(step.after),
        "level": slot.level,
        "critical": slot.critical,
        "start": slot.start,
        "end": slot.end,
        "estimate": slot.takes,
        "back_out": slot.back_out,
        "hosts": [node.host for node in step.nodes if node.host],
        "batch": step.batch,
        "ramp": list(step.ramp),
        "soak": step.soak,
        "skipped": step.skipped,
        "when": found.when,
        "at": step.at,
        "not_before": step.not_before,
        "point_of_no_return": step.point_of_no_return,
        "irreversible": step.irreversible,
        "does": [
            {
                "hosts": list(doing.hosts), "lines": list(doing.lines),
                "requires": list(doing.requires), "verify": list(doing.verify),
                "undo": doing.undo,
            }
            for doing in found.doings
        ],
        "warnings": list(found.warnings),
        "needs": [{"step": name, "output": output} for name, output in found.late],
        "changes": [
            {"before": _rrset_json(change.before), "after": _rrset_json(change.after)}
            for change in found.changes
        ],
    }


def _rrset_json(rrset: RRset | None) -> dict[str, Any] | None:
    return None if rrset is None else rrset.model_dump(mode="json")
