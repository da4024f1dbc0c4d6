"""What ends the waits of a run's work before their time: a halt all of them, an order about a step
those of the step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Halt(threading.Event):
    """Set: work is to stop at its next checkpoint. It hands out the events that waits take along,
    each wait its own, so that one step can be roused without the others."""

    def __init__(self) -> None:
        super().__init__()
        self._mutex = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}

    def set(self) -> None:
        super().set()
        with self._mutex:
            for waits in self._waiting.values():
                for wake in waits:
                    wake.set()

    def rouse(self, step: str) -> None:
        """Something was ordered about a step: its waits end, to look where it stands now."""
        with self._mutex:
            for wake in self._waiting.get(step, ()):
                wake.set()

    @contextmanager
    def wake(self, step: str) -> Iterator[threading.Event]:
        """The event that ends a wait of the step. Who looks inside the ``with`` whether there is
        anything to wait for misses no order: what comes after that look sets the event."""
        mine = threading.Event()
        with self._mutex:
            self._waiting.setdefault(step, []).append(mine)
        if self.is_set():
            mine.set()
        try:
            yield mine
        finally:
            with self._mutex:
                self._waiting[step].remove(mine)
