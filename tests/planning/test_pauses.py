"""How long steps wait that only wait, as far as it is known before a run."""

from __future__ import annotations

from typing import Any

from runbook.kinds import registry
from runbook.model.dns import Change, RRset
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runbook import Window
from runbook.planning.pauses import KnownPause, pauses

KINDS = registry()
OLD = RRset(name="a.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
LOWERED = (Change(before=OLD, after=OLD.with_ttl(60)),)


def step(name: str, kind: str, *, late: bool = False, **args: Any) -> PlannedStep:
    node = Node(id=name, step=name, args=args, late=late)
    return PlannedStep(id=name, kind=kind, nodes=(node,), estimate=60.0, estimate_undo=0.0)


def plan(*steps: PlannedStep, window: Window | None = None) -> Plan:
    return Plan(runbook="r", steps=steps, window=window)


LOWER = step("lower", "dns.ttl", zone="example", points_at="192.0.2.1", ttl=60)


def test_caches_are_waited_for_as_long_as_the_zone_file_says() -> None:
    made = plan(LOWER, step("wait", "dns.wait_ttl", of="lower", extra="1m"), step("go", "assert"))
    assert pauses(made, KINDS, {"lower": LOWERED}) == {"wait": KnownPause(3665.0, of="lower")}
    assert pauses(made, KINDS, {}) == {"wait": None}, "the zone stands at its provider alone"


def test_what_is_filled_in_late_is_not_known() -> None:
    made = plan(LOWER, step("wait", "dns.wait_ttl", late=True, of="lower", extra="{{ x }}"))
    assert pauses(made, KINDS, {"lower": LOWERED}) == {"wait": None}


def test_a_moment_is_known_where_the_start_is() -> None:
    until = step("until", "wait", until=2e9 + 1000.0)
    soak = step("soak", "wait", **{"for": "10m"})
    window = Window(start=2e9, duration=60.0, timezone="UTC")
    assert pauses(plan(until, soak, window=window), KINDS, {}) == {
        "until": KnownPause(until=2e9 + 1000.0), "soak": KnownPause(600.0)}
    assert pauses(plan(until), KINDS, {}) == {"until": None}


def test_what_is_skipped_waits_for_nothing() -> None:
    wait = step("wait", "dns.wait_ttl", of="lower")
    off = {"skipped": "no", "nodes": ()}
    assert pauses(plan(LOWER, wait.model_copy(update=off)), KINDS, {"lower": LOWERED}) == {}
    made = plan(LOWER.model_copy(update=off), wait)
    assert pauses(made, KINDS, {"lower": LOWERED}) == {"wait": None}
