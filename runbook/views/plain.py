"""One line an event: for pipes, logs of CI, dumb terminals and people who prefer it."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.text import Text

from runbook.engine.advice import answers
from runbook.engine.context import Observer
from runbook.model.events import Event
from runbook.model.runstate import RunState
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.times import plan_zone, time_of_day
from runbook.views.words import describe, event_style, one_line, to_ascii

_NODE_MIN, _NODE_MAX = 6, 32


def node_width(names: list[str]) -> int:
    """Cells for a column of node names."""
    return max(_NODE_MIN, min(max(map(len, names), default=0), _NODE_MAX))


class PlainScreen(Observer):
    """Prints every event as it happens, and the live output of steps. Thread-safe."""

    def __init__(self, *, console: Console | None = None) -> None:
        self._console = console or plain_console()
        self._ascii = ascii_only(self._console)
        self._mutex = threading.Lock()
        self._width: int | None = None

    def on_event(self, event: Event, state: RunState) -> None:
        if self._width is None:
            self._width = node_width(list(state.nodes))
        line = Text.assemble(
            (time_of_day(event.ts, plan_zone(state.plan)), "dim"), "  ",
            f"{event.node:<{self._width}}  ", (describe(event), event_style(event)),
        )
        self._print(line)
        if event.kind == "ask":
            for advice in answers(state, state.nodes[event.node]):
                self._print(Text(f"    answer: {advice.command}", style="bold"))

    def on_output(self, node: str, line: str) -> None:
        self._print(Text(f"    {node} │ {one_line(line)}", style="dim"))

    def _print(self, line: Text) -> None:
        if self._ascii:
            line.plain = to_ascii(line.plain)
        with self._mutex:
            self._console.print(line)
            self._console.file.flush()
