"""Controllers as real processes over real transports, made to be killed.

Each life of a controller is a process forked from a server that has imported everything, so
that hundreds of deaths fit into a minute.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from runbook.engine.begin import begin, take_up
from runbook.engine.context import Observer
from runbook.engine.driver import drive
from runbook.engine.faults import FailSteps
from runbook.errors import Refused
from runbook.journal import Draft, Lease, open_store
from runbook.kinds import registry
from runbook.model.events import Event
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.model.state import RunPhase
from runbook.transports.clock import SystemClock
from runbook.transports.world import TransportWorld

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.engine.controllers"])
ENDED = {RunPhase.DONE, RunPhase.ROLLED_BACK}


class MortalLease:
    """Ends its process with SIGKILL at the n-th edge of a commit: odd before, even after."""

    def __init__(self, lease: Lease, kill_at: int | None) -> None:
        self._lease = lease
        self._left = kill_at
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"on_commit", "check"}:
            setattr(self._lease, name, value)
        else:
            super().__setattr__(name, value)

    def append(
        self, drafts: Sequence[Draft], *, ts: float, taken: Sequence[int] = ()
    ) -> list[Event]:
        self._edge()
        events = self._lease.append(drafts, ts=ts, taken=taken)
        self._edge()
        return events

    def _edge(self) -> None:
        with self._lock:
            if self._left is None:
                return
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def live(directory: Path, run_id: str, kill_at: int | None, fail: tuple[str, ...]) -> None:
    """One life of a controller: begin or take up the run, drive it to its end."""
    store = open_store(directory)
    plan, events = store.load(run_id)
    lease = cast(Lease, MortalLease(store.acquire(run_id, "test"), kill_at))
    markers = fold(run_id, plan, events).spool_markers

    def opened(host: str, marker: str) -> None:
        if markers.get(host) != marker:
            markers[host] = marker
            lease.append([Draft("host_opened", data={"host": host, "marker": marker})], ts=0.0)

    clock = SystemClock()
    world = TransportWorld(
        plan, run_id=run_id, state_dir=directory, epoch=lease.epoch, clock=clock,
        endpoints=None, on_open=opened,
    )
    if events:
        world.pool.expect_markers(dict(markers))
    shared: dict[str, Any] = {
        "kinds": registry(), "observer": Observer(), "real": clock, "who": "test",
        "faults": FailSteps(fail) if fail else None,
    }
    if any(event.kind == "run_started" for event in events):
        ctx = take_up(store, lease, world, **shared)
    else:
        ctx = begin(lease, plan, world, level="live", **shared)
    drive(ctx)
    world.close()
    os._exit(0)


class Controllers:
    """Lives one run of a plan through as many controllers as it takes."""

    def __init__(self, directory: Path, plan: Plan, fail: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.store = open_store(directory)
        self.run_id = self.store.create(plan, who="test", now=0.0)
        self.fail = fail
        self.kills = 0

    def live(self, kill_at: int | None = None, kill_after: float | None = None) -> None:
        """One life; ended at an edge of a commit, or by its parent after some seconds."""
        process = _CONTEXT.Process(
            target=live, args=(self.directory, self.run_id, kill_at, self.fail)
        )
        process.start()
        process.join(kill_after if kill_after is not None else 60)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            self.kills += 1
        else:
            assert process.exitcode == 0, f"a controller ended with {process.exitcode}"

    @property
    def state(self) -> RunState:
        plan, events = self.store.load(self.run_id)
        return fold(self.run_id, plan, events)

    @property
    def ended(self) -> bool:
        return self.state.phase in ENDED

    def to_the_end(self) -> RunState:
        """Resume without further kills until the run has ended."""
        for _ in range(5):
            if self.ended:
                return self.state
            try:
                self.live()
            except Refused:
                continue
        return self.state
