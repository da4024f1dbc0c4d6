"""Kinds whose way back depends on what is there as the rollback comes to them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from runbook.engine.faults import FailSteps
from runbook.engine.reads import NodeReads
from runbook.errors import Errored, ExitCode
from runbook.model.actions import Action, ChangeRecordSet, WaitFor
from runbook.model.dns import Change, RRset
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.plan import Plan, PlannedStep
from runbook.model.ports import Reads
from runbook.model.runbook import Poll
from runbook.model.state import NodeState
from tests.engine import miniworld
from tests.engine.miniworld import Lab, step


class Linger(Kind):
    """Goes back only once ``flip`` is 0 again, and 60 s later."""

    name: ClassVar[str] = "linger"
    example: ClassVar[str] = ""
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=10.0)

    def observe(self, reads: Reads) -> Observation:
        return Observation(evidence={"flip": reads.here.query("flip").stdout}, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(WaitFor(until=before.at, why=""),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen="")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return (WaitFor(until=before.at + 60, why="about"),)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        flip = now.evidence["flip"]
        if flip == "1":
            raise Errored("some still give the new answer")
        return (WaitFor(until=now.at + 60, why="60 s from now"),) if flip == "0" else ()


def lab(folder: Path, monkeypatch: pytest.MonkeyPatch, *steps: PlannedStep) -> Lab:
    monkeypatch.setitem(miniworld.KINDS, "linger", Linger)
    made = Lab(folder, Plan(runbook="r", steps=steps))
    made.outside.values["new"] = "off"
    return made


NEW = step("new", "put", args={"key": "new", "value": "on"})
STAYS = step("stays", "linger", after=["new"])
FLIP = step("flip", "put", args={"key": "flip", "value": "1"}, after=["stays"])


def test_it_waits_from_the_moment_it_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lab(tmp_path, monkeypatch, NEW, STAYS, FLIP)
    made.outside.values["flip"] = "0"
    driven = made.drive(faults=FailSteps(["flip"]))
    assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
    nodes = made.state.nodes
    flipped, stayed, stopped = (nodes[n] for n in ("flip", "stays", "new"))
    assert stayed.undo_ended_at >= flipped.undo_ended_at + 60
    assert stopped.undo_started_at >= stayed.undo_ended_at, "what it guards is undone after it"
    assert made.outside.values["new"] == "off"


def test_where_there_is_nothing_to_wait_for_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lab(tmp_path, monkeypatch, NEW, STAYS)
    driven = made.drive(faults=FailSteps(["stays"]))
    assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
    assert made.clock.now() < 1060
    assert made.state.nodes["stays"].detail == "nothing to undo any more"


def test_what_cannot_be_told_is_looked_at_again_and_then_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bystander = step("bystander", "put", args={"key": "flip", "value": "1"}, after=["stays"],
                     irreversible="it stays so")
    made = lab(tmp_path, monkeypatch, NEW, STAYS, bystander)
    driven = made.drive(faults=FailSteps(["bystander"]))
    assert driven is not None and driven.exit_code is ExitCode.NOT_RESTORED
    state = made.state
    assert state.nodes["stays"].state is NodeState.ROLLBACK_FAILED
    assert "some still give the new answer" in state.nodes["stays"].detail
    assert made.clock.now() >= 1009, "asked again for as long as the kind polls"
    assert made.outside.values["new"] == "on", "the new side is not stopped"
    made.outside.values["flip"] = "0"
    again = made.drive(back=True)
    assert again is not None
    assert made.outside.values["new"] == "off"


def test_a_crash_in_the_wait_does_not_begin_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kill_at in range(1, 200):
        made = lab(tmp_path / str(kill_at), monkeypatch, NEW, STAYS, FLIP)
        made.outside.values["flip"] = "0"
        faults = FailSteps(["flip"])
        if made.drive(kill_at, faults=faults) is not None:
            assert kill_at > 20
            return
        made.clock.wait(made.clock.now() + 30)
        if not made.ended:
            driven = made.drive(faults=faults)
            assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
        status = made.state.nodes["stays"]
        if status.undo_attempt:
            assert status.undo_attempt == 1
            assert status.undo_actions[0]["until"] <= status.undo_started_at + 60
        assert made.outside.values == {"new": "off", "flip": "0"}


def test_changes_of_records_are_read_from_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lab(tmp_path, monkeypatch, NEW)
    made.drive()
    old = RRset(name="shop.example.", rtype="A", ttl=60, rdatas=("198.51.100.10",))
    change = Change(before=old, after=old.model_copy(update={"rdatas": ("203.0.113.10",)}))
    state = made.state
    state.nodes["new"].actions = [
        ChangeRecordSet(zone="shop.example.", changes=(change,)).model_dump(mode="json"),
        WaitFor(until=1.0, why="").model_dump(mode="json"),
    ]
    reads = NodeReads(made.plan, state, None, NEW.nodes[0], None)  # type: ignore[arg-type]
    assert reads.record_changes("shop.example.") == (change,)
    assert reads.record_changes("other.example.") == ()
