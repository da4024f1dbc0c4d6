"""Probing again and again, so that drift is seen before the window and not in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from runbook.model.ports import Clock


@dataclass(frozen=True, slots=True)
class Rounds:
    """When to look: now, and then ``every`` so many seconds, ``times`` in all (None: until it is
    ended), and not after ``until``. Rounds that would have begun while another one was still at
    work are left out."""

    clock: Clock
    wake: threading.Event
    """Ends the waiting, and with it the rounds."""
    every: float | None = None
    times: int | None = None
    until: float | None = None

    def __iter__(self) -> Iterator[int]:
        """Number of each round, from 1, when it is to begin."""
        due, number = self.clock.now(), 0
        while True:
            number += 1
            yield number
            if self.every is None or number == self.times or self.wake.is_set():
                return
            now = self.clock.now()
            due += self.every * (int((now - due) // self.every) + 1)
            if self.until is not None and due >= self.until:
                return
            if not self.clock.wait(due, self.wake):
                return
