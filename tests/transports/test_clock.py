"""The system's clock."""

from __future__ import annotations

import threading
import time

from runbook.transports.clock import SystemClock


def test_now_is_the_systems_time() -> None:
    assert abs(SystemClock().now() - time.time()) < 1


def test_a_wait_ends_at_its_moment() -> None:
    clock = SystemClock()
    until = clock.now() + 0.05
    assert clock.wait(until, threading.Event())
    assert clock.now() >= until
    assert clock.wait(clock.now() - 10)


def test_a_wait_is_woken() -> None:
    clock, wake = SystemClock(), threading.Event()
    threading.Timer(0.05, wake.set).start()
    start = clock.now()
    assert not clock.wait(start + 3600, wake)
    assert clock.now() - start < 60
