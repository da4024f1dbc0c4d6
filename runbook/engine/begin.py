"""Beginning a run and taking one up again."""

from __future__ import annotations

from collections.abc import Mapping

from runbook.engine.context import Faults, Observer, RunContext
from runbook.engine.history import Reckoning
from runbook.engine.many import some
from runbook.engine.rehearsed import check_rehearsed
from runbook.errors import Refused
from runbook.journal import Draft, Lease, Rehearsal, Store
from runbook.model.duration import format_duration
from runbook.model.folding import fold
from runbook.model.kind import Kind
from runbook.model.plan import Plan
from runbook.model.ports import Clock, OutsideClient, World
from runbook.model.runbook import Window
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from runbook.planning.timeline import build_timeline

_FEW = 4


def check_policy(
    plan: Plan, rehearsals: list[Rehearsal], *, now: float, file: str
) -> list[str]:
    """Whether a live run of this very plan may start; warnings to show. ``rehearsals``: all that
    are recorded, newest first. ``file``: the runbook, as it is called in a command to type.

    Raises Refused when a rehearsal is demanded and none that is recorded fits, and as
    :func:`check_window` does.
    """
    return check_rehearsed(plan, rehearsals, now=now, file=file) + check_window(plan, now=now)


def check_window(plan: Plan, *, now: float) -> list[str]:
    """Warnings about the window, for a live run that starts ``now``: it is over; or it is not open
    yet, and steps would start that have no date and by the plan belong into it.

    Raises Refused for both when the policy says ``outside_window: refuse``.
    """
    window = plan.window
    if window is None:
        return []
    early = _early(plan, window, now)
    if now > window.end:
        text, hint = "the window is over", "set a new window in the runbook and announce it"
    elif early:
        text = (f"the window opens in {format_duration(window.start - now)}, and "
                f"{some(early, _FEW)} would start before it")
        hint = (f"give {early[0]} `not_before: window.start`, or a date if it is meant to be "
                "early; or start the run later")
    else:
        return []
    if plan.policy.outside_window == "refuse":
        raise Refused(text, hint=hint)
    return [text]


def _early(plan: Plan, window: Window, now: float) -> list[str]:
    """A run may begin long before its window, with dated steps and what comes before them. What
    would start in the window were it begun with the first date, or by ``runbook plan`` is early
    already, is not meant to start now."""
    usual, begun = build_timeline(plan), build_timeline(plan, begun=now)
    return [
        step.id for step in plan.steps
        if step.skipped is None and step.at is None
        and begun.slots[step.id].start < window.start
        and (usual.slots[step.id].start >= window.start or step.id in usual.early)
    ]


def hosts_of(plan: Plan) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Hosts the plan works on, those of its databases' servers too, and the users it becomes on
    each."""
    hosts: dict[str, set[str]] = {}
    for step in plan.steps:
        for node in step.nodes:
            if node.host is not None:
                users = hosts.setdefault(node.host, set())
                if step.run_as:
                    users.add(step.run_as)
            for check in (*node.requires, *node.verify):
                if check.host is not None:
                    hosts.setdefault(check.host, set())
    for budget in plan.budgets:
        if budget.probe is not None and budget.probe.host is not None:
            hosts.setdefault(budget.probe.host, set())
    for database in plan.databases:
        if database.data_directory is not None or database.service is not None:
            users = hosts.setdefault(database.host, set())
            if database.run_as:
                users.add(database.run_as)
    return tuple(hosts), {host: tuple(sorted(users)) for host, users in hosts.items() if users}


def begin(
    lease: Lease, plan: Plan, world: World, *, kinds: Mapping[str, type[Kind]],
    observer: Observer, real: Clock, who: str, level: str, endpoints: str = "",
    faults: Faults | None = None, reckoning: Reckoning | None = None,
    outside: OutsideClient | None = None,
) -> RunContext:
    """A fresh run under its lease; ``run_started`` is durable when this returns."""
    ctx = RunContext(
        plan=plan, state=RunState.empty(lease.run_id, plan), lease=lease, world=world,
        kinds=kinds, observer=observer, real=real, who=who, faults=faults,
        reckoning=reckoning, outside=outside,
    )
    left_out = [
        Draft("skipped", node.id, "do", 0, {"why": step.skipped})
        for step in plan.steps if step.skipped is not None for node in step.nodes
    ]
    ctx.append(Draft("run_started", data={
        "who": who, "level": level, "digest": plan.digest, "epoch": lease.epoch,
        "endpoints": endpoints, "faults": list(ctx.faults.told),
        "slowed": ctx.faults.slowed}), *left_out)
    return ctx


def take_up(
    store: Store, lease: Lease, world: World, *, kinds: Mapping[str, type[Kind]],
    observer: Observer, real: Clock, who: str, back: bool = False,
    faults: Faults | None = None, reckoning: Reckoning | None = None,
    outside: OutsideClient | None = None,
) -> RunContext:
    """A run as its journal has it, under a new lease; ``resumed`` is durable on return.

    Failed steps of a held run get fresh tries: resuming is asking for them. ``back``: it is
    taken up to be rolled back, which a finished run can be too.
    Raises Refused when the run has ended.
    """
    plan, events = store.load(lease.run_id)
    if not events:
        raise Refused(
            f"run {lease.run_id} was pinned but never started; nothing was touched",
            hint="start a new one with `runbook run`",
        )
    state = fold(lease.run_id, plan, events)
    ended = {RunPhase.ROLLED_BACK, RunPhase.ABORTED} | (set() if back else {RunPhase.DONE})
    if state.phase in ended:
        raise Refused(
            f"run {lease.run_id} has ended: {state.phase}",
            hint=f"runbook report {lease.run_id}",
        )
    ctx = RunContext(plan=state.plan, state=state, lease=lease, world=world, kinds=kinds,
                     observer=observer, real=real, who=who, faults=faults,
                     reckoning=reckoning, outside=outside)
    if state.phase is RunPhase.HELD:
        ctx.fresh_tries.update(
            n.node for n in state.nodes.values()
            if n.state in {NodeState.FAILED, NodeState.ERRORED}
        )
    ctx.append(Draft("resumed", data={"who": who, "epoch": lease.epoch}))
    return ctx
