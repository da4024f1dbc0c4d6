"""How long going back waits for caches, by what has begun; in a plan, and as a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from runbook.engine.actions_json import to_json
from runbook.engine.backout import backout_time, clock, reckoned_undos
from runbook.engine.history import Expected, Reckoning
from runbook.engine.in_time import outlook
from runbook.engine.journaled_waits import JournaledWaits
from runbook.kinds import registry
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, RRset
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runbook import Window
from runbook.planning.back_waits import back_waits, guessed_back_waits, waited
from runbook.planning.timeline import build_timeline
from tests.views.story import START, Story

KINDS = registry()
OLD = RRset(name="a.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
LOW = OLD.with_ttl(60)
NEW = LOW.model_copy(update={"rdatas": ("192.0.2.9",)})
LOWERED, FLIPPED = (Change(before=OLD, after=LOW),), (Change(before=LOW, after=NEW),)


def step(name: str, kind: str, *after: str, **args: Any) -> PlannedStep:
    return PlannedStep(
        id=name, kind=kind, after=after, nodes=(Node(id=name, step=name, args=args),),
        estimate=10.0, estimate_undo=65.0 if kind == "dns.wait_back" else 10.0,
    )


def moved(*, stays: str = "192.0.2.9") -> Plan:
    return Plan(
        runbook="r", window=Window(start=START, duration=7200.0, timezone="UTC"), steps=(
            step("lower", "dns.ttl", zone="example", points_at="192.0.2.1", ttl=60),
            step("stays", "dns.wait_back", "lower", zone="example", points_at=stays, ttl=60),
            step("flip", "dns.flip", "stays", zone="example", **{"from": "192.0.2.1",
                                                                 "to": "192.0.2.9"}),
            step("restore", "dns.restore_ttl", "flip", of="lower"),
        ),
    )


@pytest.mark.parametrize(("changes", "behind"), [
    ({}, {"flip": 65.0, "restore": 65.0}),
    ({"lower": LOWERED}, {"flip": 65.0, "restore": 3605.0}),
    ({"lower": LOWERED, "flip": FLIPPED}, {"flip": 65.0, "restore": 3605.0}),
    ({"lower": ()}, {"flip": 65.0, "restore": 0.0}),
], ids=["nobody knows", "flip to come", "flipped", "was low already"])
def test_after_a_flip_it_is_the_low_ttl_and_after_a_restored_one_the_high(
    changes: Mapping[str, tuple[Change, ...]], behind: Mapping[str, float]
) -> None:
    assert back_waits(moved(), KINDS, changes) == {"stays": behind}


def test_what_never_led_to_the_new_side_is_not_waited_for() -> None:
    elsewhere = back_waits(moved(stays="192.0.2.77"), KINDS, {"lower": LOWERED, "flip": FLIPPED})
    assert elsewhere == {"stays": {"flip": 0.0, "restore": 0.0}}


def test_it_is_told_where_that_is_a_guess() -> None:
    changes = {"lower": LOWERED, "flip": FLIPPED}
    assert guessed_back_waits(moved(), KINDS, {"lower": LOWERED}) == {"stays"}, "the flip's TTL"
    assert guessed_back_waits(moved(), KINDS, {}) == {"stays"}
    assert guessed_back_waits(moved(), KINDS, changes) == frozenset()


def test_only_what_has_begun_counts() -> None:
    waits = back_waits(moved(), KINDS, {"lower": LOWERED, "flip": FLIPPED})
    assert waited(waits, {"lower"}) == {"stays": 0.0}
    assert waited(waits, {"lower", "flip"}) == {"stays": 65.0}


def test_the_plan_tells_the_hour() -> None:
    plan = moved()
    line = build_timeline(plan, back_waits(plan, KINDS, {"lower": LOWERED, "flip": FLIPPED}))
    assert [line.back_out_at(one.id) for one in plan.steps] == [10, 10, 20 + 65, 30 + 3605]
    assert build_timeline(plan).back_out_at("restore") == 30 + 65, "by the estimate alone"


class Told(Story):
    """A run of the plan, as the engine journals it."""

    def change(self, name: str, *changes: Change) -> Told:
        acting = to_json(ChangeRecordSet(zone="example.", changes=changes))
        self.add("intent", name, 1, "do", before={"state": {"on": 1}}, actions=[acting])
        self.wait(10).finish(name)
        return self


def test_the_clock_knows_it_from_the_journal() -> None:
    # A wait of an earlier night says nothing: it depends on where that one turned.
    known = Reckoning(undo={"stays": Expected(3605.0, "same step", 1)}, waits=JournaledWaits(KINDS))
    told = Told(moved(), start=START).change("lower", *LOWERED).do("stays", 0)
    assert backout_time(told.state, known) == 10
    restoring = outlook(told.state, told.plan.by_id["restore"], told.now, known)
    assert restoring is not None
    assert restoring.back == 20 + 3605, "before the flip has begun, too"
    told = told.change("flip", *FLIPPED)
    assert backout_time(told.state, known) == 20 + 65
    told = told.change("restore", Change(before=NEW, after=NEW.with_ttl(3600)))
    read = clock(told.state, told.now, known)
    assert (read.backout, read.margin) == (30 + 3605, 7200 - 30 - 3635)
    assert read.weighing == 3, "the wait is reckoned, and no estimate"
    assert reckoned_undos(told.state, known)["stays"] == 3605


def test_what_was_taken_back_is_still_waited_for() -> None:
    known = Reckoning(waits=JournaledWaits(KINDS))
    told = Told(moved(), start=START).change("lower", *LOWERED).do("stays", 0)
    told = told.change("flip", *FLIPPED).change("restore", Change(before=NEW, after=NEW))
    told.add("rollback_started", why="no", who="", to=None)
    told.undo("restore", 1).undo("flip", 1)
    assert backout_time(told.state, known) == 10 + 65


def test_a_plan_without_such_waits_has_none() -> None:
    plan = Plan(runbook="r", steps=(step("go", "gate.approve"),))
    assert JournaledWaits(KINDS)(Story(plan).state) == {}
