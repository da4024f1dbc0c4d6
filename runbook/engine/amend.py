"""Changing the plan of a run that has begun: only what has not.

Pure: what a new plan would change in a run as it stands, and what of that may not change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.engine.ground import Thing, ground
from runbook.errors import Refused
from runbook.journal import Draft
from runbook.model.database import Database
from runbook.model.dns import Zone
from runbook.model.inventory import Host, Inventory
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.secrets import SecretRef
from runbook.model.state import NodeState, RunPhase
from runbook.templating.needed import playbook_outputs_read

_SHOWN = 100
_FOR_PEOPLE = frozenset({"title", "owner", "tags", "source", "estimate", "estimate_undo"})
"""Of a step: decides nothing about what was done or how it is taken back."""

_HEAD = ("title", "owner", "window", "policy", "budgets")
_MAY_CHANGE = frozenset({RunPhase.RUNNING, RunPhase.PAUSED, RunPhase.HELD})


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the plan of a run and a new one."""

    what: str
    """``step flip``, ``host west-web``, ``window``, …"""
    how: str
    """In words, down to the place that differs."""
    refused: str = ""
    """Why it may not change; empty: it may."""

    @property
    def text(self) -> str:
        return f"{self.what}: {self.how}"


def check_may_amend(state: RunState) -> None:
    """Raises Refused for a run that has ended or goes back, and for one in staging: an edited
    runbook speaks of production first."""
    if state.level == "staging":
        raise Refused(
            f"run {state.run_id} is a rehearsal in staging, which rehearses one plan as it is",
            hint=f"take it back (runbook rollback {state.run_id}), and rehearse the new plan",
        )
    if state.rolling_back or state.phase not in _MAY_CHANGE:
        raise Refused(
            f"run {state.run_id} is {state.phase.value.replace('_', ' ')}: its plan is no longer "
            "changed", hint="start a new run with the new plan",
        )


def changes(state: RunState, new: Plan) -> tuple[Change, ...]:
    """Every difference, in the order of the plan; none: the plans are the same."""
    old = state.plan
    found: list[Change] = []
    if new.runbook != old.runbook:
        found.append(Change("runbook", f"{old.runbook} → {new.runbook}",
                            "that is another runbook, not this one amended"))
    for name in _HEAD:
        found += [Change(name, text) for text in _unlike(_plain(old, name), _plain(new, name))]
    begun = [step for step in old.steps if why_begun(state, step)]
    found += _definitions(old, new, begun)
    for step in old.steps:
        found += _step_changes(state, step, new.by_id.get(step.id))
    found += [Change(f"step {s.id}", f"is new ({s.kind})") for s in new.steps
              if s.id not in old.by_id]
    return tuple(found)


def amended(state: RunState, new: Plan, found: tuple[Change, ...], *, who: str, why: str) -> Draft:
    """The event. Raises Refused naming everything that may not change."""
    refused = [change for change in found if change.refused]
    if refused:
        raise Refused(
            "not amended: " + "; ".join(f"{c.text} ({c.refused})" for c in refused),
            hint="only what has not begun may change. Take a step back first (runbook rollback "
            f"{state.run_id} --to STEP), or leave it as it is and add a new one after it",
        )
    return Draft("amended", data={
        "who": who, "why": why, "was": state.plan.digest, "digest": new.digest,
        "changes": [change.text for change in found], "plan": new.model_dump(mode="json"),
    })


def why_begun(state: RunState, step: PlannedStep) -> str:
    """Why a step is no longer free to change; empty: nothing of it has begun, or all of it was
    taken back."""
    for node in step.nodes:
        status = state.nodes[node.id]
        if not _free(status):
            return f"{node.id} is {status.state.value.replace('_', ' ')}"
    return ""


def _free(status: NodeStatus) -> bool:
    if status.state in {NodeState.PENDING, NodeState.ROLLED_BACK}:
        return True
    # It failed before it did anything: a check, or a requirement that did not hold.
    failed = status.state in {NodeState.FAILED, NodeState.ERRORED}
    return failed and not status.intended and not status.unsettled


def _step_changes(state: RunState, step: PlannedStep, new: PlannedStep | None) -> list[Change]:
    what, begun = f"step {step.id}", why_begun(state, step)
    if new is None:
        return [Change(what, "is taken out", begun)]
    was, now = step.model_dump(mode="json"), new.model_dump(mode="json")
    found = []
    for key in was:
        refused = "" if key in _FOR_PEOPLE else begun
        if key == "source" or was[key] == now[key]:
            continue
        for text in _unlike(_by_id(was[key]), _by_id(now[key]), key):
            found.append(Change(what, text, refused))
    return found


def _definitions(old: Plan, new: Plan, begun: list[PlannedStep]) -> list[Change]:
    """Hosts, zones, databases, secrets and files: those that a step that has begun stands on must
    stay, as it may have to be taken back."""
    found: list[Change] = []
    stood_on = ground(old, begun)

    def compare(what: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*was, *now]):
            refused = stood_on.get(Thing(what, name), "")
            found.extend(Change(f"{what} {name}", text, refused)
                         for text in _unlike(was.get(name), now.get(name)))

    compare("host", _named(old.inventory.hosts), _named(new.inventory.hosts))
    compare("zone", _named(old.zones), _named(new.zones))
    compare("database", _named(old.databases), _named(new.databases))
    compare("secret", _named(old.secrets), _named(new.secrets))
    found += _files(old, new, begun)
    reached = next((why for thing, why in stood_on.items() if thing.what == "host"), "")
    for name in ("sites", "known_hosts", "ssh_config"):
        was, now = (_plain(plan.inventory, name) for plan in (old, new))
        refused = reached if name == "ssh_config" else ""
        found += [Change("inventory", text, refused) for text in _unlike(was, now, name)]
    return found + _playbooks(old, new, begun)


def _files(old: Plan, new: Plan, begun: list[PlannedStep]) -> list[Change]:
    spoken = [(step.id, json.dumps(step.model_dump(mode="json"))) for step in begun]
    found: list[Change] = []
    for name in dict.fromkeys([*old.files, *new.files]):
        users = [step for step, text in spoken if json.dumps(name)[1:-1] in text]
        refused = f"{users[0]} has begun with it" if users and name in old.files else ""
        found.extend(Change(f"file {name}", text, refused)
                     for text in _unlike(old.files.get(name), new.files.get(name)))
    return found


def _playbooks(old: Plan, new: Plan, begun: list[PlannedStep]) -> list[Change]:
    """Outputs of called playbooks, and the variables in them: an undo may be made of them."""
    readers = [(step.id, playbook_outputs_read(old, step)) for step in begun]

    def reader(call: str, output: str | None) -> str:
        for step, read in readers:
            if any(one == call and output in (None, name) for one, name in read):
                return f"{step} has begun and reads it"
        return ""

    found: list[Change] = []
    for call in dict.fromkeys([*old.playbook_outputs, *new.playbook_outputs]):
        was, now = (plan.playbook_outputs.get(call, {}) for plan in (old, new))
        for name in dict.fromkeys([*was, *now]):
            found += [Change(f"output {name} of {call}", text, reader(call, name))
                      for text in _unlike(was.get(name), now.get(name))]
        scope, other = (plan.playbook_scopes.get(call) for plan in (old, new))
        found += [Change(f"variables of the outputs of {call}", text, reader(call, None))
                  for text in _unlike(scope, other)]
    return found


def _named(items: Iterable[Zone | Database | SecretRef | Host]) -> dict[str, Any]:
    return {item.called if isinstance(item, Zone) else item.name: item.model_dump(mode="json")
            for item in items}


def _plain(whole: Plan | Inventory, name: str) -> Any:
    return whole.model_dump(mode="json", include={name})[name]


def _by_id(value: Any) -> Any:
    """Nodes by their id: so one that is new does not look as if all after it had changed."""
    if isinstance(value, list) and value and all(isinstance(v, dict) and "id" in v for v in value):
        return {item["id"]: item for item in value}
    return value


def _unlike(was: Any, now: Any, at: str = "") -> Iterator[str]:
    """``place: was → is``, down to where two values really differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*was, *now]):
            yield from _unlike(was.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif was != now:
        head = f"{at}: " if at else ""
        yield f"{head}{_short(was)} → {_short(now)}"


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
