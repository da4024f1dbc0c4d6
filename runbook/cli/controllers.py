"""Controllers of rehearsals, each a process of its own, so that each can be killed like one.

They are forked from one server that has imported everything (multiprocessing's *forkserver*): a
controller begins in milliseconds, and inherits no thread and no lock of who asked for it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from runbook.cli.session import Order, Show, start, take_up
from runbook.engine.context import Observer
from runbook.errors import Errored, ExitCode, RunbookError
from runbook.journal import Store, open_store
from runbook.model.events import Event
from runbook.model.faults import Fault
from runbook.model.runstate import RunState
from runbook.sandbox.fingerprint import Fingerprint, differences
from runbook.sandbox.handle import WorldHandle

PATIENCE = 900.0
"""Real seconds after which a controller of a rehearsal has got stuck."""

TOUCHED = "touched.json"
"""In a run's folder: by step, the things of the world that it changed."""

_LOG = "controller.log"


@dataclass(frozen=True, slots=True)
class Job:
    """What one controller has to do: start a run that is pinned, or take it up."""

    state: Path
    run: str
    level: str
    endpoints_file: str = ""
    resume: bool = False
    order: Mapping[str, Any] | None = None
    """Said to the run as it is taken up: to go back, with the data of the order."""
    faults: tuple[Fault, ...] = field(default=())
    watch: Path | None = None
    """The folder of a world to be looked at after every step; see ``TOUCHED``."""


def make_ready() -> None:
    """Start the server now, deaf to Ctrl-C, which is for the controllers. From the main thread."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _context()
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def control(job: Job) -> int | None:
    """Let a controller do its job; its exit code, or None when it was killed.

    Raises Errored when it got stuck, and with its last words when it broke down.
    """
    process: BaseProcess = _context().Process(target=_controller, args=(job,))
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        raise Errored(f"the controller of run {job.run} did not end within {PATIENCE:.0f} s",
                      hint=f"runbook log {job.run}")
    code = process.exitcode
    if code is None or code < 0:
        return None
    if code not in set(ExitCode) or code == ExitCode.INTERNAL:
        raise Errored(f"the controller of run {job.run} broke down: {_last_words(job)}")
    return code


def _controller(job: Job) -> None:
    store = open_store(job.state)
    directory = store.run_directory(job.run)
    directory.mkdir(parents=True, exist_ok=True)
    log = os.open(directory / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)
    try:
        code = int(_do(job, store))
    except RunbookError as fault:
        sys.stderr.write(f"{fault.message}\n{fault.hint}\n")
        code = int(fault.exit_code)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _do(job: Job, store: Store) -> ExitCode:
    if job.resume:
        order = Order("rollback", job.order) if job.order is not None else None
        return take_up(store, job.run, show=Show.NOTHING, order=order, faults=job.faults,
                       attended=False).exit_code
    plan, _ = store.load(job.run)
    witness = Witness(WorldHandle.attach(job.watch)) if job.watch is not None else None
    _, driven = start(
        plan, store, level=job.level, endpoints_file=job.endpoints_file, show=Show.NOTHING,
        faults=job.faults, run_id=job.run, watch=witness,
    )
    if witness is not None:
        (store.run_directory(job.run) / TOUCHED).write_text(json.dumps(witness.touched))
    return driven.exit_code


def _last_words(job: Job) -> str:
    path = job.state / "runs" / job.run / _LOG
    text = path.read_text(errors="replace").strip() if path.exists() else ""
    return text.splitlines()[-1] if text else "it said nothing"


class Witness(Observer):
    """Looks at the world whenever a node begins to act and when it has ended, and keeps what
    changed between two looks for the steps that were at work. Where several are, it is kept for
    each: what a step is said to change may then be too much, never too little."""

    def __init__(self, world: WorldHandle) -> None:
        self._world = world
        self._seen: Fingerprint | None = None
        self._at_work: set[str] = set()
        self.touched: dict[str, list[str]] = {}

    def on_event(self, event: Event, state: RunState) -> None:
        if event.op != "do" or event.kind not in {"intent", "verified", "failed"}:
            return
        now = self._world.fingerprint()
        if self._seen is not None:
            for difference in differences(self._seen, now):
                for step in self._at_work:
                    things = self.touched.setdefault(step, [])
                    if difference.thing not in things:
                        things.append(difference.thing)
        self._seen = now
        step = event.node.partition("@")[0]
        if event.kind == "intent":
            self._at_work.add(step)
        elif all(state.nodes[n.id].state.value != "started" for n in state.plan.by_id[step].nodes):
            self._at_work.discard(step)
