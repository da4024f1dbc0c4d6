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

    ``tick`` is called again and again by the driving thread; false means: start nothing new. Where
    ``go_on`` is given and true, the thread that ends one piece goes straight on with one that has
    become free by that: inside a critical section every change of threads counts.

    An exception in ``work`` or ``tick`` ends the run after what is going on has come to a
    checkpoint, and is raised from :meth:`run`: the first one, as others follow from it.
    """

    def __init__(
        self, ctx: RunContext, after: Mapping[str, tuple[str, ...]],
        work: Callable[[str], bool], *, tick: Callable[[], bool],
        go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ctx = ctx
        self._work = work
        self._tick = tick
        self._go_on = go_on
        # From here on: only under the lock of signals.changed.
        self._missing = {name: len(set(before)) for name, before in after.items()}
        self._next: dict[str, list[str]] = {name: [] for name in after}
        for name, before in after.items():
            for earlier in set(before):
                self._next[earlier].append(name)
        self._ready = deque(name for name, count in self._missing.items() if count == 0)
        self._running: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._fault: BaseException | None = None
        self._may_start = False
        self.unfinished = set(after)

    def run(self) -> None:
        """Until nothing more can be started and nothing is going on."""
        changed = self._ctx.signals.changed
        while True:
            may_start = self._look()
            with changed:
                self._may_start = may_start and self._fault is None
                while self._may_start and self._ready and len(self._running) < MAX_AT_ONCE:
                    self._start(self._ready.popleft())
                if not self._running:
                    break
                changed.wait(ANSWER_LOOK_EVERY)
        for thread in self._threads:
            thread.join()
        if self._fault is not None:
            raise self._fault

    def _look(self) -> bool:
        if self._fault is not None:
            return False
        try:
            return self._tick()
        except BaseException as caught:  # noqa: BLE001 - raised by run, when nothing goes on
            self._failed(caught)
            return False

    def _failed(self, fault: BaseException) -> None:
        # Kept before the others are halted: what they raise because of that is not the first.
        with self._ctx.signals.changed:
            self._fault = self._fault or fault
        self._ctx.halt.set()

    def _start(self, name: str) -> None:
        thread = threading.Thread(target=self._body, args=(name,))
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        self._running.add(name)
        thread.start()

    def _body(self, name: str) -> None:
        todo: str | None = name
        while todo is not None:
            threading.current_thread().name = f"step {todo}"
            done = False
            try:
                done = self._work(todo)
            except BaseException as fault:  # noqa: BLE001 - raised by run, in the driving thread
                self._failed(fault)
            with self._ctx.signals.changed:
                todo = self._ended(todo, done)
                self._ctx.signals.changed.notify_all()

    def _ended(self, name: str, done: bool) -> str | None:
        """Take account of a piece that has ended; the piece its thread goes on with."""
        self._running.discard(name)
        if not done:
            return None
        self.unfinished.discard(name)
        free = []
        for later in self._next[name]:
            self._missing[later] -= 1
            if self._missing[later] == 0:
                free.append(later)
        following = free.pop(0) if (
            free and not self._ready and self._may_start and self._fault is None and self._go_on()
        ) else None
        self._ready.extend(free)
        if following is not None:
            self._running.add(following)
        return following
