"""Rollback coverage on a terminal: progress while it is played, then the matrix, or JSON."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runbook.engine.coverage import NOTHING, Cell, Coverage
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.views import coverage_words as words
from runbook.views.bars import bar
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.words import one_line, to_ascii

_STYLE = {True: "green", False: "bold red"}
_LINES_AROUND = 8


class CoverageProgress:
    """Is told of every cell as it is played: a matrix that fills, or one line a cell."""

    def __init__(
        self, plan: Plan, columns: Sequence[str], *, live: bool, console: Console | None = None
    ) -> None:
        self._plan = plan
        self._columns = columns
        self._console = console or plain_console()
        self._ascii = ascii_only(self._console)
        self._mutex = threading.Lock()
        self._cells: dict[tuple[str, str], Cell] = {}
        self._done = self._whole = 0
        self._began = time.monotonic()
        wanted = live and self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(
            console=self._console, get_renderable=self.picture, refresh_per_second=4,
            transient=True, redirect_stdout=False, redirect_stderr=False,
        ) if wanted else None

    def __enter__(self) -> CoverageProgress:
        self._began = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, cell: Cell, done: int, whole: int) -> None:
        """A cell has been played. ``whole`` 0: how many there will be is not known yet."""
        with self._mutex:
            self._cells[cell.step, cell.column] = cell
            self._done, self._whole = done, whole
        if self._live is None:
            count = f"{done}/{whole}" if whole else str(done)
            shown = words.cell_text(cell, ascii_only=self._ascii)
            line = f"{count:>9}  {words.where(cell)}: {shown}"
            self._console.print(line if cell.good else f"{line}: {one_line(cell.why)}")

    def picture(self) -> RenderableType:
        with self._mutex:
            cells, done, whole = dict(self._cells), self._done, self._whole
        spent = format_duration(time.monotonic() - self._began)
        what = "to see what each step does" if not whole else f"{done} of {whole}"
        head = Text.assemble(("Playing worlds ", "bold"), f"{what}, {spent}  ")
        head.append_text(bar(done / whole if whole else 0.0, 24, "green", self._ascii))
        if len(self._plan.steps) + _LINES_AROUND <= self._console.height:
            steps = [step.id for step in self._plan.steps]
            return Group(head, matrix(steps, self._columns, cells, {}, ascii_marks=self._ascii))
        bad = [cell for cell in cells.values() if not cell.good]
        lines = [Text(f"{words.where(cell)}: {one_line(cell.why)}", style="bold red",
                      no_wrap=True, overflow="ellipsis")
                 for cell in bad[-(self._console.height - 3):]]
        return Group(head, *lines)


def matrix(
    steps: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Cell],
    undo: Mapping[str, str], *, ascii_marks: bool,
) -> Table:
    """Steps down, faults across. ``undo``: what taking each step back is."""
    rows = ["", *steps] if any(step == "" for step, _ in cells) else list(steps)
    by_step = [c for c in columns if not c.startswith("slow-")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step", no_wrap=True)
    if undo:
        table.add_column("its undo", justify="right", no_wrap=True)
    for column in by_step:
        table.add_column(words.column_title(column), no_wrap=True)
    for step in rows:
        if step == "":
            _whole_run(table, columns, cells, len(by_step), bool(undo), ascii_marks)
            continue
        line: list[str | Text] = [step]
        if undo:
            told = undo.get(step, "")
            line.append(Text(told, style="bold red" if told[:1] in "✗x" and told else ""))
        line += [_cell(cells.get((step, column)), ascii_marks) for column in by_step]
        table.add_row(*line)
    return table


def _whole_run(
    table: Table, columns: Sequence[str], cells: Mapping[tuple[str, str], Cell], width: int,
    with_undo: bool, ascii_marks: bool,
) -> None:
    """Rows of what strikes no step: no fault at all, and slowness."""
    for column in (NOTHING, *(c for c in columns if c.startswith("slow-"))):
        cell = cells.get(("", column))
        if cell is not None:
            name = Text(words.WHOLE_RUN if column == NOTHING
                        else f"({words.column_title(column)})", style="italic")
            shown = _cell(cell, ascii_marks)
            blank = [""] * (width - (0 if with_undo else 1))
            table.add_row(name, shown, *blank)


def _cell(cell: Cell | None, ascii_marks: bool) -> Text:
    if cell is None:
        return Text("")
    style = "yellow" if cell.irreversible or cell.declared else _STYLE[cell.good]
    return Text(words.cell_text(cell, ascii_only=ascii_marks), style=style)


def show_coverage(
    coverage: Coverage, *, as_json: bool, written: Sequence[Path] = (),
    console: Console | None = None,
) -> None:
    """The whole result."""
    if as_json:
        print(json.dumps(coverage.as_json()))  # noqa: T201
        return
    console = console or plain_console()
    plain = ascii_only(console)
    cells = {(cell.step, cell.column): cell for cell in coverage.cells}
    undo = {row.step: words.undo_text(row, ascii_only=plain) for row in coverage.steps}
    console.print(matrix([row.step for row in coverage.steps], coverage.columns, cells, undo,
                         ascii_marks=plain))
    console.print(Text(to_ascii(words.LEGEND) if plain else words.LEGEND, style="dim"))
    console.print()
    console.print(Text(words.headline(coverage), style=_STYLE[coverage.ok]))
    console.print(words.lost_text(coverage))
    for problem in coverage.problems:
        console.print(Text(f"problem: {one_line(problem)}", style="bold red"))
    for row in coverage.irreversible:
        if not row.undo_missing:
            console.print(f"no way back, as declared: {row.step}: {one_line(row.no_way_back)}")
    for row in coverage.steps:
        if row.undo_missing:
            console.print(Text(f"no undo: {one_line(words.missing_hint(row))}", style="bold red"))
    for trouble, shown in words.troubles(coverage).items():
        console.print(Text(one_line(trouble), style="bold red"))
        console.print(f"  at {words.shown_by(shown)}")
        console.print(f"  look: runbook log {shown[0].run}")
    for path in written:
        console.print(f"Written: {path}")
    ended = "passed" if coverage.ok else "did not pass"
    console.print(Text(f"Rehearsal {ended}", style=_STYLE[coverage.ok]))
