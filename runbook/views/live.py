"""The operator's live screen. It is told of events by the engine and draws in its own time."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from runbook.engine.context import Observer
from runbook.engine.history import Reckoning
from runbook.model.events import Event
from runbook.model.folding import apply
from runbook.model.runstate import RunState
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.frame import compose
from runbook.views.glance import Glance, snapshot
from runbook.views.words import one_line

_KEPT_OUTPUT = 200
_REDRAWS_A_SECOND = 4


class LiveScreen(Observer):
    """A full-screen picture of one run, redrawn several times a second until it is left; then
    its last state stays on the terminal.

    A context manager and the engine's :class:`~runbook.engine.context.Observer`. Safe to call
    from any thread: events are folded into a state of its own, so that drawing never reads
    what the engine is writing. ``real_now`` is the machine's time; ``now`` the run's, and
    without it the run's time is taken to pass as real time does since the last event.
    """

    def __init__(
        self, run_id: str, *, real_now: Callable[[], float],
        now: Callable[[], float] | None = None, reckoning: Reckoning | None = None,
        console: Console | None = None,
    ) -> None:
        self._run_id = run_id
        self._console = console or plain_console()
        self._ascii = ascii_only(self._console)
        self._given_now = now
        self._real_now = real_now
        self._reckoning = reckoning
        self._mutex = threading.Lock()
        self._state: RunState | None = None
        self._heard_at = real_now()
        self._output: deque[tuple[str, str]] = deque(maxlen=_KEPT_OUTPUT)
        self._live: Live | None = None

    def __enter__(self) -> LiveScreen:
        self._live = Live(
            console=self._console, screen=True, refresh_per_second=_REDRAWS_A_SECOND,
            get_renderable=self.picture, redirect_stdout=False, redirect_stderr=False,
        )
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        glance = self.glance()
        if glance is not None:
            width, height = self._console.size
            glance = dataclasses.replace(glance, held=False)  # Its controller is leaving, too.
            for line in compose(glance, width, height, ascii_only=self._ascii, output=False):
                self._console.print(line)

    def on_event(self, event: Event, state: RunState) -> None:
        with self._mutex:
            self._heard_at = self._real_now()
            if self._state is not None and event.prev_hash == self._state.last_hash:
                apply(self._state, event)
            elif self._state is None or event.seq > self._state.last_seq:
                # The first event, or not the one that was to come: begin from the engine's own.
                self._state = snapshot(state)

    def on_output(self, node: str, line: str) -> None:
        with self._mutex:
            self._output.append((node, line))

    def on_question(self, node: str, question: Mapping[str, Any]) -> None:
        """Ring the terminal's bell: somebody is wanted. The question itself comes as an event."""
        self._console.bell()

    def glance(self) -> Glance | None:
        """What there is to see now, which later events do not change; None before the first."""
        with self._mutex:
            if self._state is None:
                return None
            state, lines, heard_at = snapshot(self._state), tuple(self._output), self._heard_at
        real = self._real_now()
        now = self._given_now() if self._given_now else state.last_ts + (real - heard_at)
        return Glance(state, now, real, lines, self._reckoning)

    def picture(self) -> RenderableType:
        """The screen as it is now, no larger than the console."""
        glance = self.glance()
        if glance is None:
            lines = [Text(f"{self._run_id}: opening connections …", style="bold")]
            with self._mutex:
                said = tuple(self._output)
            lines += [Text(f"  {one_line(line)}", style="dim") for _, line in said]
            return Group(*lines[: self._console.height])
        width, height = self._console.size
        return Group(*compose(glance, width, height, ascii_only=self._ascii))
