"""Runs pieces of work as parallel as their edges allow; forward work and rollback alike."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from runbook.engine.context import ANSWER_LOOK_EVERY, RunContext

MAX_AT_ONCE = 256
"""Steps at work or waiting at the same time; nodes are bounded by ``policy.max_parallel``."""


class GraphRunner:
    """``work(name)`` returns whether those that come after it may start.

    An exception in ``work`` or ``tick`` ends the run after what is going on has come to a
    checkpoint, and is raised from :meth:`run`: the first one, as others follow from it.
    """

    def __init__(
        self, ctx: RunContext, after: Mapping[str, tuple[str, ...]],
        work: Callable[[str], bool], *, tick: Callable[[], bool],
    ) -> None:
        self._ctx = ctx
        self._work = work
        self._tick = tick
        self._missing = {name: len(set(before)) for name, before in after.items()}
        self._next: dict[str, list[str]] = {name: [] for name in after}
        for name, before in after.items():
            for earlier in set(before):
                self._next[earlier].append(name)
        self._ready = deque(name for name, count in self._missing.items() if count == 0)
        self._ended: deque[tuple[str, bool | BaseException]] = deque()
        self._running: dict[str, threading.Thread] = {}
        self.unfinished = set(after)

    def run(self) -> None:
        """Until nothing more can be started and nothing is going on.

        ``tick`` is called between; false means: start nothing new.
        """
        fault: BaseException | None = None
        while True:
            try:
                may_start = fault is None and self._tick()
                while may_start and self._ready and len(self._running) < MAX_AT_ONCE:
                    self._start(self._ready.popleft())
            except BaseException as caught:  # noqa: BLE001 - raised below, when nothing goes on
                self._ctx.halt.set()
                fault = caught
            while self._ended:
                found = self._finish(*self._ended.popleft())
                fault = fault or found
            if self._running:
                with self._ctx.signals.changed:
                    if not self._ended:
                        self._ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
                continue
            if fault is not None:
                raise fault
            if not (self._ready and self._tick()):
                return

    def _start(self, name: str) -> None:
        thread = threading.Thread(target=self._body, args=(name,), name=f"step {name}")
        thread.start()
        self._running[name] = thread

    def _body(self, name: str) -> None:
        try:
            outcome: bool | BaseException = self._work(name)
        except BaseException as fault:  # noqa: BLE001 - carried to the driving thread, raised there
            outcome = fault
        with self._ctx.signals.changed:
            self._ended.append((name, outcome))
            self._ctx.signals.changed.notify_all()

    def _finish(self, name: str, outcome: bool | BaseException) -> BaseException | None:
        self._running.pop(name).join()
        if isinstance(outcome, BaseException):
            self._ctx.halt.set()
            return outcome
        if outcome:
            self.unfinished.discard(name)
            for later in self._next[name]:
                self._missing[later] -= 1
                if self._missing[later] == 0:
                    self._ready.append(later)
        return None
