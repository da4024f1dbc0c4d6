"""One virtual time for several processes, kept in one small shared file.

The world, the controller and the traffic client read the same file, so they agree on the time
without talking to each other. Real time is ``CLOCK_MONOTONIC``, which is one and the same for
every process of a machine.

Time passes at rate 1 while work is done, because commands take real time. It runs fast only while
somebody waits for a moment, and never past that moment: the file says up to when, so a waiter
that is killed leaves a clock that slows down by itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_SLICE = 0.02
"""Longest real sleep between two looks at the file: another waiter may have changed the rate."""

_GRACE = 0.01
"""Real seconds at rate 1 after a moment somebody waited for, before the next stretch of fast
time begins: who woke there gets the chance to act, or to name its next moment, first."""

_PATIENCE = 0.25
"""The same where a waiter has not been seen to wake at its moment: it may be late, or dead."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """Content of the clock file. ``virtual = anchor_virtual + (real - anchor_real) * rate`` until
    ``until`` (a virtual moment) is reached; from there on the rate is 1."""

    anchor_real: float
    anchor_virtual: float
    rate: float
    until: float
    scale: float
    longest_wait: float
    targets: tuple[float, ...] = ()
    """Virtual moments that somebody waits for; fast time stops at the earliest of them."""

    @property
    def slowed_at(self) -> float:
        """Real moment from which the rate is 1."""
        return self.anchor_real + max(0.0, self.until - self.anchor_virtual) / self.rate

    def virtual(self, real: float) -> float:
        slowed = self.slowed_at
        if self.rate > 1 and real < slowed:
            return self.anchor_virtual + (real - self.anchor_real) * self.rate
        if self.rate > 1:
            return max(self.until, self.anchor_virtual) + (real - slowed)
        return self.anchor_virtual + (real - self.anchor_real)


class WorldClock:
    """The shared clock at ``path``; implements :class:`runbook.model.ports.Clock`.

    Create the file once with :meth:`create`; every process then opens it by its path.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def create(
        cls, path: Path | str, *, start: float, scale: float = 60.0, longest_wait: float = 3.0
    ) -> WorldClock:
        """A new clock that stands at ``start`` (Unix seconds).

        A wait runs at ``scale`` × real time at least, and fast enough to last no longer than
        ``longest_wait`` real seconds. ``scale`` 1 is real time: waits last as long as they say.
        Raises ValueError for a scale below 1 or a longest wait that is not positive.
        """
        if scale < 1 or longest_wait <= 0:
            raise ValueError("scale must be 1 or more, and longest_wait positive")
        clock = cls(path)
        clock._write(
            ClockState(time.monotonic(), start, 1.0, start, float(scale), float(longest_wait))
        )
        return clock

    def state(self) -> ClockState:
        data = json.loads(self.path.read_text(encoding="ascii"))
        data["targets"] = tuple(data["targets"])
        return ClockState(**data)

    def now(self) -> float:
        """Unix seconds of the world's time."""
        return self.state().virtual(time.monotonic())

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        """Wait until ``until``; True when it was reached, False when ``wake`` was set first.

        Several waiters share one rate, the fastest that one of them needs, and none is carried
        past its moment while the others wait, except where that would hold one of them up for
        longer than ``longest_wait`` real seconds.
        """
        alarm = wake or threading.Event()
        deadline = time.monotonic() + self.state().longest_wait
        try:
            while True:
                if alarm.is_set():
                    return False
                pause = self._advance(until, deadline)
                if pause <= 0:
                    return True
                alarm.wait(min(pause, _SLICE))
        finally:
            self._forget(until)

    def steady(self) -> float:
        """The world's time, which nobody sets."""
        return self.now()

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """As :meth:`wait`, from now on."""
        return self.wait(self.now() + seconds, wake)

    def _advance(self, target: float, deadline: float) -> float:
        """Let time run towards ``target``; the real seconds after which to look again."""
        with self._locked():
            state = self.state()
            real = time.monotonic()
            now = state.virtual(real)
            if now >= target:
                return 0.0
            if state.scale <= 1:
                return target - now
            targets = {moment for moment in state.targets if moment > now} | {target}
            cap = target if real >= deadline else min(targets)
            running = state.rate > 1 and real < state.slowed_at
            hold = _PATIENCE if any(moment <= now for moment in state.targets) else _GRACE
            if not running and state.targets and real < min(deadline, state.slowed_at + hold):
                return min(_SLICE, state.slowed_at + hold - real)
            needed = max(state.scale, (target - now) / max(deadline - real, _SLICE))
            rate = max(needed, state.rate) if running else needed
            if not running or rate > state.rate or cap != state.until:
                state = replace(
                    state, anchor_real=real, anchor_virtual=now, rate=rate, until=cap
                )
            self._write(replace(state, targets=tuple(sorted(targets))))
            return max((cap - now) / state.rate, 1e-4)

    def _forget(self, target: float) -> None:
        """Take out a moment nobody waits for any more; those who still wait speed up again."""
        with self._locked():
            state = self.state()
            if target not in state.targets:
                return
            real = time.monotonic()
            now = state.virtual(real)
            rest = list(state.targets)
            rest.remove(target)
            state = replace(state, anchor_real=real, anchor_virtual=now, rate=1.0, until=now)
            self._write(replace(state, targets=tuple(rest)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, state: ClockState) -> None:
        """Readers see the old content or the new one, never a part."""
        new = Path(f"{self.path}.{os.getpid()}.{threading.get_ident()}.tmp")
        new.write_text(json.dumps(asdict(state)), encoding="ascii")
        new.replace(self.path)
