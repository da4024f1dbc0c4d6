"""The system's clock."""

from __future__ import annotations

import threading
import time

_SLICE = 60.0


class SystemClock:
    """Implements :class:`runbook.model.ports.Clock` on the system's own time.

    Waiting is in slices of a minute at most, each measured anew against the system's time, so
    that a clock that is set, or a machine that slept, does not carry a wait past its moment.
    """

    def now(self) -> float:
        return time.time()

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        alarm = wake or threading.Event()
        while True:
            left = until - time.time()
            if left <= 0:
                return True
            if alarm.wait(min(left, _SLICE)):
                return False

    def steady(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        return not (wake or threading.Event()).wait(max(0.0, seconds))
