"""The hosts of a plan, each looked at once: does it answer, as whom, and what time is it there."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from runbook.engine.begin import hosts_of
from runbook.engine.mishaps import words
from runbook.engine.probe.report import HostSeen, NeedSeen
from runbook.errors import RunbookError
from runbook.kinds.clock_common import apart
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.model.ports import HostReads, World

TOLD = 1.0
"""Seconds that clocks may differ before a person is told: logs cannot be laid side by side."""
WRONG = 300.0
"""Seconds from which TSIG (RFC 8945 section 10) and Kerberos refuse what is signed."""


def look_at_hosts(plan: Plan, world: World) -> tuple[HostSeen, ...]:
    """Never raises."""
    names, users = hosts_of(plan)
    here: Iterable[str | None] = {node.host for step in plan.steps for node in step.nodes} & {None}
    with ThreadPoolExecutor(max(1, plan.policy.max_parallel)) as pool:
        return tuple(pool.map(
            lambda name: _look(world, name, users.get(name or "", ())), (*here, *names)
        ))


def _look(world: World, name: str | None, users: Iterable[str]) -> HostSeen:
    try:
        reads = world.host(name)
        reads.query("true")
    except RunbookError as fault:
        return HostSeen(name=name or "", answers=False, says=words(fault))
    needs = [_user(reads, user) for user in users]
    ahead = None
    if name is not None:
        ahead, clock = _clock(reads, world)
        needs.append(clock)
    return HostSeen(name=name or "", answers=True, ahead=ahead, needs=tuple(needs))


def _user(reads: HostReads, user: str) -> NeedSeen:
    what = f"commands run as {user}"
    try:
        done = reads.query("true", run_as=user)
    except RunbookError as fault:
        return NeedSeen(what=what, state="unknown", seen=fault.message, hint=fault.hint)
    if done.exit_code == 0:
        return NeedSeen(what=what, state="met")
    return NeedSeen(
        what=what, state="unmet", seen=done.stderr.strip(),
        hint="allow it in sudoers, or give the host `become:` with the secret of its password",
    )


def _clock(reads: HostReads, world: World) -> tuple[float | None, NeedSeen]:
    what = "its clock is the controller's"
    try:
        ahead, took = apart(reads, world.host(None))
    except RunbookError as fault:
        return None, NeedSeen(what=what, state="unknown", seen=fault.message)
    told = f"within {format_duration(took)}" if not ahead else (
        f"{format_duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    )
    state = "unmet" if abs(ahead) >= WRONG else "warning" if abs(ahead) > TOLD else "met"
    return ahead, NeedSeen(
        what=what, state=state, seen=told,
        hint="" if state == "met" else "see that it follows a time server",
    )
