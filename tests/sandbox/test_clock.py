from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runbook.sandbox.clock import WorldClock

START = 1_252_558_800.0
HOUR = 3600.0


@pytest.fixture
def clock(tmp_path: Path) -> WorldClock:
    return WorldClock.create(tmp_path / "clock", start=START, scale=60, longest_wait=0.4)


def test_it_starts_where_it_is_told_and_passes_at_rate_1(clock: WorldClock) -> None:
    began = time.monotonic()
    first = clock.now()
    threading.Event().wait(0.1)
    passed = clock.now() - first
    assert 0 <= first - START < 5
    assert 0.1 <= passed <= time.monotonic() - began


def test_a_long_wait_takes_no_longer_than_the_longest(clock: WorldClock) -> None:
    target = clock.now() + 48 * HOUR
    began = time.monotonic()
    assert clock.wait(target)
    assert time.monotonic() - began < 3
    assert target <= clock.now() < target + 5, "time stops racing at the moment waited for"


def test_a_pause_passes_as_fast_as_a_wait(clock: WorldClock) -> None:
    began, real = clock.steady(), time.monotonic()
    assert clock.pause(600.0)
    assert clock.steady() - began >= 600.0
    assert time.monotonic() - real < 60


def test_a_short_wait_runs_at_the_scale(clock: WorldClock) -> None:
    began = time.monotonic()
    assert clock.wait(clock.now() + 6)
    assert 0.09 < time.monotonic() - began < 3


def test_a_moment_in_the_past_does_not_wait_and_does_not_turn_time_back(
    clock: WorldClock,
) -> None:
    before = clock.now()
    assert clock.wait(before - HOUR)
    assert before <= clock.now() < before + 5


def test_a_wait_that_is_woken_says_so_and_leaves_time_slow(clock: WorldClock) -> None:
    wake = threading.Event()
    threading.Timer(0.05, wake.set).start()
    assert clock.wait(clock.now() + 1000 * HOUR, wake) is False
    now = clock.now()
    threading.Event().wait(0.05)
    assert clock.now() - now < 5


def test_parallel_waits_do_not_multiply_the_rate(clock: WorldClock) -> None:
    began, first = time.monotonic(), clock.now()
    threads = [
        threading.Thread(target=clock.wait, args=(first + 12 + number / 10,))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = time.monotonic() - began
    assert real > 12 / 60 * 0.9, "8 waiters at scale 60 still make 60, not 480"
    assert real < 6


def test_nobody_is_carried_past_a_moment_by_a_longer_wait(clock: WorldClock) -> None:
    first = clock.now()
    long = threading.Thread(target=clock.wait, args=(first + 48 * HOUR,))
    woke_at: list[float] = []

    def short() -> None:
        clock.wait(first + 1800)
        woke_at.append(clock.now())

    short_one = threading.Thread(target=short)
    short_one.start()
    long.start()
    short_one.join()
    long.join()
    assert woke_at[0] - (first + 1800) < 60, "at the long wait's rate a slice would be hours"
    assert clock.now() >= first + 48 * HOUR


def test_real_time_does_not_race(tmp_path: Path) -> None:
    clock = WorldClock.create(tmp_path / "clock", start=START, scale=1, longest_wait=0.1)
    began = time.monotonic()
    assert clock.wait(clock.now() + 0.3)
    assert time.monotonic() - began >= 0.29


_READER = """
import sys, json
from runbook.sandbox.clock import WorldClock
clock = WorldClock(sys.argv[1])
for line in sys.stdin:
    print(json.dumps(clock.now()), flush=True)
"""

_WAITER = """
import sys
from runbook.sandbox.clock import WorldClock
clock = WorldClock(sys.argv[1])
print("waiting", flush=True)
clock.wait(float(sys.argv[2]))
"""


def test_two_processes_see_the_same_time(clock: WorldClock) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(clock.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:
        assert other.stdin and other.stdout
        for wait in (0.0, 600.0, 48 * HOUR):
            clock.wait(clock.now() + wait)
            before = clock.now()
            other.stdin.write("now\n")
            other.stdin.flush()
            theirs = json.loads(other.stdout.readline())
            assert before <= theirs <= clock.now()
        other.stdin.close()


def test_a_killed_waiter_leaves_a_clock_that_slows_down_by_itself(clock: WorldClock) -> None:
    target = clock.now() + 600
    with subprocess.Popen(
        [sys.executable, "-c", _WAITER, str(clock.path), str(target)],
        stdout=subprocess.PIPE, text=True,
    ) as waiter:
        assert waiter.stdout
        waiter.stdout.readline()
        while clock.state().rate <= 1:
            threading.Event().wait(0.005)
        waiter.kill()
        waiter.wait()
    threading.Event().wait(0.6)
    assert clock.now() < target + 10, "fast time ended at the moment the dead one waited for"
    began = time.monotonic()
    assert clock.wait(clock.now() + 24 * HOUR), "and the clock still serves others"
    assert time.monotonic() - began < 5


def test_readers_never_see_half_a_file(clock: WorldClock) -> None:
    ended = threading.Event()
    faults: list[str] = []

    def read() -> None:
        last = 0.0
        while not ended.is_set():
            now = clock.now()
            if now < last:
                faults.append(f"time went back by {last - now}")
            last = now

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(40):
        clock.wait(clock.now() + 0.3)
    ended.set()
    reader.join()
    assert faults == []


def test_a_scale_below_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale"):
        WorldClock.create(tmp_path / "clock", start=0, scale=0.5)
