"""The system's clock."""

from __future__ import annotations

import threading
import time

import pytest

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


@pytest.mark.parametrize("by", [3600.0, -3600.0])
def test_a_pause_is_as_long_as_it_says_however_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    clock, wake = SystemClock(), threading.Event()
    began, steady, now = time.monotonic(), clock.steady(), time.time

    def is_set() -> None:
        monkeypatch.setattr(time, "time", lambda: now() + by)

    setting = threading.Timer(0.02, is_set)
    setting.start()
    assert clock.pause(0.1, wake)
    setting.join()
    assert 0.1 <= time.monotonic() - began < 60
    assert 0.1 <= clock.steady() - steady < 60
    wake.set()
    assert not clock.pause(3600.0, wake)
