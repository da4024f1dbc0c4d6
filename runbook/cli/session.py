"""Driving a run from a terminal: the screen, Ctrl-C, questions, and how it all ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import typer

from runbook.cli import wiring
from runbook.cli.answer import load_state
from runbook.cli.foretelling import keep_foretold
from runbook.cli.output import needs_no_reader
from runbook.cli.staging import check_still_apart
from runbook.cli.terminal import TerminalAnswers
from runbook.engine.begin import begin, hosts_of
from runbook.engine.begin import take_up as begin_again
from runbook.engine.context import Faults, Observer, RunContext
from runbook.engine.driver import Driven, drive
from runbook.engine.faults import CUT, Injected
from runbook.engine.history import Reckoning
from runbook.errors import Errored, ExitCode, Refused
from runbook.journal import Draft, Lease, Store
from runbook.model.endpoints import Endpoints
from runbook.model.events import Event
from runbook.model.faults import Fault
from runbook.model.plan import Plan
from runbook.model.ports import Clock
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from runbook.transports.world import TransportWorld
from runbook.views.ending import ending
from runbook.views.screen import screen

_LAST_WORDS = 1.0
"""Real seconds for saying that it is detached."""


class Show(Enum):
    """What of a run is shown while it is driven."""

    LIVE = "live"
    """The screen, where there is a terminal for it; else as PLAIN."""
    PLAIN = "plain"
    """One line an event."""
    NOTHING = "nothing"


def shown(plain: bool) -> Show:
    """What ``--plain`` asks for."""
    return Show.PLAIN if plain else Show.LIVE


@dataclass(frozen=True, slots=True)
class Order:
    """A message said to a run as it is taken up."""

    verb: str
    data: Mapping[str, Any]


def start(
    plan: Plan, store: Store, *, level: str = "live", endpoints_file: str = "",
    show: Show = Show.LIVE, faults: Sequence[Fault] = (), run_id: str | None = None,
    watch: Observer | None = None, attended: bool = False,
) -> tuple[str, Driven]:
    """Pin a plan as a new run and drive it; its id, and how driving ended.

    ``faults``: what a rehearsal makes go wrong. ``run_id``: it is pinned already under that id.
    ``watch`` is told of every event where nothing is shown. ``attended``: people answer the
    questions of a rehearsal; else it does so itself. Raises Refused for secrets that are missing.
    """
    needs_no_reader()
    who = wiring.person()
    endpoints = wiring.read_endpoints(endpoints_file) if endpoints_file else None
    if endpoints is None:
        wiring.check_secrets(plan)
    clock = wiring.run_clock(endpoints)
    run_id = run_id or store.create(plan, who=who, now=clock.now(), level=level)
    lease = store.acquire(run_id, wiring.controller())
    keep_foretold(store, run_id, plan, level=level)
    known = wiring.reckoning(store, plan, level=level, leave_out=run_id)
    with _observer(
        store, run_id, clock, known, people=attended or level == "live", show=show, watch=watch
    ) as observer:
        world = _world(plan, store, lease, endpoints)
        try:
            ctx = begin(
                lease, plan, world, kinds=wiring.kinds(), observer=observer,
                real=wiring.real_clock(), who=who, level=level, endpoints=endpoints_file,
                faults=_faults(endpoints, faults, world, lease), reckoning=known,
                outside=world.outside,
            )
            return run_id, _drive(ctx)
        finally:
            world.close()
            lease.release()


def take_up(
    store: Store, run_id: str, *, show: Show = Show.LIVE, order: Order | None = None,
    faults: Sequence[Fault] = (), attended: bool | None = None,
) -> Driven:
    """Take up a run where its journal stands, and say ``order`` to it first. ``faults`` and
    ``attended``: as for :func:`start`; faults that a run was started with are not repeated by
    themselves, and where it is not said, staging is attended by who sits at the terminal.

    Raises Refused for a rehearsal in staging that reaches into production by now."""
    needs_no_reader()
    folded = load_state(store, run_id)
    people = folded.level == "live"
    if folded.level == "staging":
        check_still_apart(store, run_id, folded.plan)
        people = sys.stdin.isatty() if attended is None else attended
    endpoints = wiring.read_endpoints(folded.endpoints) if folded.endpoints else None
    lease = store.acquire(run_id, wiring.controller())
    clock = wiring.run_clock(endpoints)
    known = wiring.reckoning(store, folded.plan, level=folded.level, leave_out=run_id)
    with _observer(store, run_id, clock, known, people=people, show=show) as observer:
        world = _world(folded.plan, store, lease, endpoints, folded.spool_markers)
        try:
            ctx = begin_again(
                store, lease, world, kinds=wiring.kinds(), observer=observer,
                real=wiring.real_clock(), who=wiring.person(),
                back=order is not None and order.verb == "rollback",
                faults=_faults(endpoints, faults, world, lease), reckoning=known,
                outside=world.outside,
            )
            if order is not None:
                store.post(run_id, order.verb, who=wiring.person(), now=ctx.now(),
                           data=order.data)
            back = folded.rolling_back or (order is not None and order.verb == "rollback")
            return _drive(ctx, back=back)
        finally:
            world.close()
            lease.release()


def finish(driven: Driven, run_id: str) -> NoReturn:
    """Say how it ended and what to do next; raises typer.Exit with the fitting code."""
    typer.echo(ending(driven.phase, driven.exit_code, driven.why, run_id))
    raise typer.Exit(int(driven.exit_code))


def _world(
    plan: Plan, store: Store, lease: Lease, endpoints: Endpoints | None,
    markers: Mapping[str, str] | None = None,
) -> TransportWorld:
    known = dict(markers or {})
    clock = wiring.run_clock(endpoints)

    def opened(host: str, marker: str) -> None:
        # Journaled before anything is launched there: resume compares it with what it finds.
        if known.get(host) != marker:
            known[host] = marker
            lease.append([Draft("host_opened", data={"host": host, "marker": marker})],
                         ts=clock.now())

    world = wiring.build_world(
        plan, run_id=lease.run_id, state=store.directory, epoch=lease.epoch,
        endpoints=endpoints, on_open=opened,
    )
    if markers:
        world.pool.expect_markers(markers)
    return world


def _faults(
    endpoints: Endpoints | None, faults: Sequence[Fault], world: TransportWorld, lease: Lease
) -> Faults | None:
    """Those asked for, and those that the table of a sandbox names."""
    failing = endpoints.fail if endpoints is not None else ()
    wanted = [*faults, *(Fault(kind="fail", step=step) for step in failing)]
    if not wanted:
        return None

    def cut(host: str) -> None:
        told = Draft("note", data={"text": f"{CUT} to {host}"})
        world.pool.cut_next(host, lambda: lease.append([told], ts=world.clock.now()))

    return Injected(wanted, cut=cut, real=wiring.real_clock())


def _drive(ctx: RunContext, *, back: bool = False) -> Driven:
    """Open everything, then drive. On the way back one dead host must not keep the others from
    being restored: what cannot be opened is noted, and fails its own steps alone. A database that
    is down may have been stopped by the run itself, so once it has begun that is noted, too."""
    begun = any(node.intended for node in ctx.state.nodes.values())
    hosts = partial(ctx.world.prepare, *hosts_of(ctx.plan))
    databases = ctx.world.prepare_databases
    with _interrupts(ctx):
        for prepare, must in ((hosts, not back), (databases, not back and not begun)):
            try:
                prepare()
            except Errored as fault:
                why = f"not everything could be opened beforehand: {fault.message}"
                if must:
                    further = "further " if begun else ""
                    why = f"{why}; nothing {further}was changed"
                    ctx.append(Draft("held", data={"why": why}))
                    return Driven(ctx.state.phase, ExitCode.UNREACHABLE, why)
                ctx.append(Draft("note", data={"text": why}))
        driven = drive(ctx)
        _tidy(ctx)
        return driven


def _tidy(ctx: RunContext) -> None:
    """Leave nothing on the hosts that is not needed any more. It can never fail a run."""
    unsettled = {NodeState.STARTED, NodeState.APPLIED, NodeState.IN_DOUBT, NodeState.UNDOING}
    if any(node.state in unsettled for node in ctx.state.nodes.values()):
        return
    try:
        ctx.world.tidy(keep_saved=ctx.state.phase is not RunPhase.ROLLED_BACK)
    except (Errored, Refused) as fault:
        ctx.append(Draft("note", data={"text": f"not tidied up on the hosts: {fault.message}"}))


@contextmanager
def _interrupts(ctx: RunContext) -> Iterator[None]:
    """First Ctrl-C: stop at the next checkpoint. Second: detach; remote work goes on."""

    asked = False

    def stop() -> None:
        ctx.stop()
        typer.echo("\nstopping at the next checkpoint; press Ctrl-C again to detach", err=True)

    def say_detached() -> None:
        typer.echo(
            f"\ndetached; commands on the hosts go on. Take it up again: "
            f"runbook resume {ctx.state.run_id}", err=True,
        )

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        # Neither stops nor speaks by itself: it may have interrupted a holder of the same lock,
        # and who does not read what is said must not hold up what was asked for.
        task = threading.Thread(target=say_detached if asked else stop, name="stop", daemon=True)
        task.start()
        if asked:
            task.join(_LAST_WORDS)
            os._exit(int(ExitCode.STOPPED))
        asked = True

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _observer(
    store: Store, run_id: str, clock: Clock, known: Reckoning, *, people: bool, show: Show,
    watch: Observer | None = None,
) -> Iterator[Observer]:
    if show is Show.NOTHING:
        inner = watch or Observer()
        yield inner if people else _SelfAnswering(inner, store, run_id)
        return
    live = show is Show.LIVE and sys.stdout.isatty()
    with screen(run_id, live=live, now=clock.now, reckoning=known) as inner:
        if not people:
            yield _SelfAnswering(inner, store, run_id)
        elif sys.stdin.isatty():
            def tell(text: str) -> None:
                inner.on_output("keyboard", text)

            with TerminalAnswers(inner, store, run_id, tell=tell) as answering:
                yield answering
        else:
            yield inner


class _SelfAnswering(Observer):
    """In a rehearsal that nobody attends there is nobody to ask: questions are answered, and the
    journal says by whom."""

    def __init__(self, inner: Observer, store: Store, run_id: str) -> None:
        self._inner = inner
        self._store = store
        self._run_id = run_id

    def on_event(self, event: Event, state: RunState) -> None:
        self._inner.on_event(event, state)

    def on_output(self, node: str, line: str) -> None:
        self._inner.on_output(node, line)

    def on_question(self, node: str, question: Mapping[str, Any]) -> None:
        self._inner.on_question(node, question)
        if question.get("verbs"):
            # What shall become of a failed step: the way back is what a rehearsal is about.
            self._store.post(
                self._run_id, "rollback", who="rehearsal", now=wiring.real_clock().now(),
                data={"why": "answered by the rehearsal"},
            )
            return
        if question.get("reason"):
            # What has to be accepted by name, with a reason, no rehearsal accepts.
            self._say("reject", node, "rehearsal", {"why": "nobody accepts this in a rehearsal"})
            return
        roles = list(question.get("roles") or ())
        people = max(int(question.get("quorum", 1)), len(roles), 1)
        for number in range(people):
            role = roles[number] if number < len(roles) else ""
            self._say("approve", node, f"rehearsal-{role or number + 1}", {
                "role": role, "why": "answered by the rehearsal", "evidence": "rehearsal"})

    def _say(self, verb: str, node: str, who: str, data: Mapping[str, str]) -> None:
        self._store.post(self._run_id, verb, who=who, now=wiring.real_clock().now(), node=node,
                         data=data)
