"""``runbook rehearsals``: newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.text import Text

from runbook.engine.begin import check_window
from runbook.engine.rehearsed import check_rehearsed, demanded, satisfies
from runbook.errors import Refused
from runbook.journal import Rehearsal
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.views.consoles import plain_console
from runbook.views.coverage_words import steps_struck
from runbook.views.simulation import odds
from runbook.views.times import at, iso


def show_rehearsals(
    found: Sequence[Rehearsal], plan: Plan | None, *, now: float, file: str,
    console: Console | None = None,
) -> None:
    """``plan``: the one they are looked at for; those of its own digest are marked with ``*``.
    ``file``: the runbook, as it is called in commands to type."""
    console = console or plain_console()
    if not found:
        console.print(f"no rehearsal is recorded; begin with: runbook rehearse {file}")
    names = max((len(_name(one)) for one in found), default=0)
    for one in found:
        line = Text(f"{at(one.ts, UTC):%Y-%m-%d %H:%M}Z  {one.level:<8}  ")
        if plan is None:
            line.append(f"{_name(one):<{names}}  ")
        mine = plan is not None and one.plan_digest == plan.digest
        line.append(f"{one.plan_digest[:12]}{'*' if mine else ' '} ")
        line.append("good    " if one.ok else "NOT good", "green" if one.ok else "bold red")
        line.append(f"  {one.who}")
        console.print(line)
        console.print(Text(f"    {_detail(one)}", style="dim"))
    if plan is not None:
        text, good = _verdict(found, plan, now, file)
        console.print()
        console.print(Text(text, style="green" if good else "bold red"))


def rehearsals_data(
    found: Sequence[Rehearsal], plan: Plan | None, *, now: float, file: str
) -> dict[str, Any]:
    """The same for programs."""
    rows = [
        {
            "digest": one.plan_digest, "level": one.level, "run": one.run_id or None,
            "ts": one.ts, "when": iso(one.ts), "who": one.who, "ok": one.ok,
            # What a probe saw is kept for the next one alone, and is long.
            "data": {key: value for key, value in one.data.items() if key != "seen"},
        }
        for one in found
    ]
    if plan is None:
        return {"rehearsals": rows}
    text, good = _verdict(found, plan, now, file)
    return {"rehearsals": rows, "digest": plan.digest, "required": list(demanded(plan)),
            "may_start": good, "why": text}


def enough(found: Sequence[Rehearsal], plan: Plan, *, now: float) -> bool:
    """Whether a live run of the plan would not be refused for want of rehearsals."""
    return _verdict(found, plan, now, "")[1]


def _verdict(
    found: Sequence[Rehearsal], plan: Plan, now: float, file: str
) -> tuple[str, bool]:
    """What a live run of the plan as it is now would be told about rehearsals, in its window."""
    levels = demanded(plan)
    opens = plan.window.start if plan.window is not None else now
    try:
        warnings = check_rehearsed(plan, found, now=now, file=file)
        warnings += check_window(plan, now=max(now, opens))
    except Refused as fault:
        return f"A live run would be refused: {fault.message}. {fault.hint}", False
    if not levels:
        return "The policy demands no rehearsal.", True
    newest = [
        f"{level} {format_duration(now - one.ts)} ago" for level in levels
        if (one := next((r for r in found if satisfies(r, level)), None)) is not None
    ]
    return "; ".join((f"Rehearsed as the policy demands: {', '.join(newest)}", *warnings)), True


def _name(one: Rehearsal) -> str:
    return str(one.data.get("runbook", ""))


def _detail(one: Rehearsal) -> str:
    data = one.data
    if one.level == "simulate" and "foretold" in data:
        said = data["foretold"]
        inside = "in its window" if said.get("fits") is not None else "done"
        fits = f"{inside} {odds(said['done_in_window'])}"
        took = f"takes {format_duration(said['took']['p90'])} (p90)"
        if said["dated"]:
            took = f"ends by {at(said['end']['p90'], UTC):%H:%M:%S}Z (p90)"
        return f"for a {data.get('for')} run; {fits}; {took}"
    if one.level == "probe" and "fidelity" in data:
        drift = data.get("drift")
        changed = f"; {drift} things changed since the one before" if drift else ""
        return f"fidelity {data['fidelity']:.0%}{changed}"
    if one.level == "plan" and "total" in data:
        return f"{format_duration(data['total'])} by estimate"
    parts = [one.run_id, str(data.get("phase", "")).replace("_", " ")]
    if data.get("faults"):
        parts.append(f"faults{_where(data)}: {', '.join(map(str, data['faults']))}")
    failed = data.get("failed_on_purpose")
    if failed:
        parts.append(f"made to fail: {', '.join(map(str, failed))}")
    if data.get("inverted"):
        parts.append("in the other direction")
    if data.get("back"):
        parts.append("and taken back")
    if data.get("by_hand"):
        parts.append(f"decided by hand: {', '.join(map(str, data['by_hand']))}")
    if data.get("lost") is not None:
        parts.append(f"{data['lost']} writes lost")
    return "; ".join(part for part in parts if part)


def _where(data: Mapping[str, Any]) -> str:
    """At which steps faults were played; of records that do not say it, nothing."""
    only = data.get("at_steps")
    if only is None:
        return ""
    return f" at {steps_struck(only, data.get('of_steps', 0))}" if only else " at each step"
