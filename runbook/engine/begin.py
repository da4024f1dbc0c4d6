"""Beginning a run and taking one up again."""

from __future__ import annotations

from collections.abc import Mapping

from runbook.engine.context import Faults, Observer, RunContext
from runbook.engine.history import Reckoning
from runbook.engine.rehearsed import check_rehearsed
from runbook.errors import Refused
from runbook.journal import Draft, Lease, Rehearsal, Store
from runbook.model.folding import fold
from runbook.model.kind import Kind
from runbook.model.plan import Plan
from runbook.model.ports import Clock, OutsideClient, World
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase


def check_policy(plan: Plan, rehearsals: list[Rehearsal], *, now: float) -> list[str]:
    """Whether a live run of this very plan may start; warnings to show. ``rehearsals``: all that
    are recorded, newest first.

    Raises Refused when a rehearsal is demanded and none that is recorded fits, or when the window
    is over and the policy says ``outside_window: refuse``.
    """
    warnings = check_rehearsed(plan, rehearsals, now=now)
    window = plan.window
    if window is not None and now > window.end:
        text = "the window is over"
        if plan.policy.outside_window == "refuse":
            raise Refused(text, hint="set a new window in the runbook and announce it")
        warnings.append(text)
    return warnings


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
