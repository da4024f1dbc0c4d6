"""Looks that are cut into many, and ways back that would lose something."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from runbook.errors import Errored, ExitCode
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Loss, Observation, Planned, Verdict
from runbook.model.plan import Check, Plan, PlannedStep
from runbook.model.ports import Reads
from runbook.model.runbook import Poll
from runbook.model.state import NodeState, RunPhase
from tests.engine import miniworld
from tests.engine.miniworld import Lab, Put, step

LOOKED: list[int] = []


class Count(Kind):
    """Looks at five things, one a look."""

    name: ClassVar[str] = "count"
    example: ClassVar[str] = ""
    check: ClassVar[bool] = True
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)

    def observe(self, reads: Reads) -> Observation:
        if reads.here.query("silent").stdout == "1" and reads.progress.get("seen") == 3:
            raise Errored("nobody answers")
        seen = reads.progress.get("seen", 0) + 1
        LOOKED.append(seen)
        return Observation(evidence={"seen": seen}, progress={"seen": seen} if seen < 5 else {})

    def plan(self, before: Observation) -> Planned:
        return Planned(reason="a check")

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen = after.evidence["seen"]
        return Verdict(ok=seen == 5, seen=f"{seen} of 5", retry=seen != 5)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()


class Precious(Put):
    """A put whose undo loses what others have added to it since."""

    name: ClassVar[str] = "precious"
    may_lose: ClassVar[bool] = True

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        rows = reads.here.query("rows").stdout
        if rows == "?":
            raise Errored("nobody answers")
        return Loss(what=f"{rows} rows", rows=int(rows)) if rows else None

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        if self.value == "gone":
            return Irreversible(why="it is gone")
        return (RunCommand(host=None, script=f"set {self.key}={before.state['value']}"),)


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(miniworld.KINDS, "count", Count)
    monkeypatch.setitem(miniworld.KINDS, "precious", Precious)


def lab(folder: Path, *steps: PlannedStep, values: dict[str, str] | None = None) -> Lab:
    return Lab(folder, Plan(runbook="r", steps=steps), values)


def test_a_long_look_goes_on_where_it_was_whenever_its_controller_dies(tmp_path: Path) -> None:
    for kill_at in range(1, 100):
        LOOKED.clear()
        made = lab(tmp_path / str(kill_at), step("look", "count"))
        if made.drive(kill_at) is not None:
            assert LOOKED == [1, 2, 3, 4, 5]
            assert made.state.nodes["look"].progress == {}
            return
        if made.state.phase is not RunPhase.DONE:
            driven = made.drive()
            assert driven is not None and driven.exit_code is ExitCode.OK
        # Only the look that was not journaled yet may be taken twice.
        assert len(LOOKED) <= 6 and sorted(LOOKED) == LOOKED


def test_a_look_that_nobody_answered_goes_on_there_and_one_that_failed_begins_anew(
    tmp_path: Path,
) -> None:
    LOOKED.clear()
    made = lab(tmp_path, step("look", "count", on_failure="hold"), values={"silent": "1"})
    made.drive()
    assert made.state.nodes["look"].state is NodeState.ERRORED
    made.outside.values["silent"] = "0"
    driven = made.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert LOOKED == [1, 2, 3, 4, 5]


def test_a_check_beside_a_step_has_a_progress_of_its_own(tmp_path: Path) -> None:
    LOOKED.clear()
    first = step("look", "count")
    node = first.nodes[0].model_copy(update={"requires": (Check(kind="count", args={}),)})
    for kill_at in range(1, 100):
        made = lab(tmp_path / str(kill_at), first.model_copy(update={"nodes": (node,)}))
        LOOKED.clear()
        if made.drive(kill_at) is not None:
            assert LOOKED == [1, 2, 3, 4, 5] * 2
            return
        if made.state.nodes["look"].progress:
            # The step goes on where it was; the check begins as a check does.
            LOOKED.clear()
            made.drive()
            assert LOOKED[:5] == [1, 2, 3, 4, 5]


PRECIOUS = step("db", "precious", args={"key": "db", "value": "new"})
AFTER = step("web", "put", args={"key": "web", "value": "new"}, after=["db"])


def back(made: Lab, *accepted: str) -> ExitCode:
    made.store.post(made.run_id, "rollback", who="ada", now=2.0,
                    data={"accept_loss": list(accepted)})
    driven = made.drive(back=True)
    assert driven is not None
    return driven.exit_code


def test_a_loss_is_told_before_anything_is_undone_and_accepted_by_name(tmp_path: Path) -> None:
    made = lab(tmp_path, PRECIOUS, AFTER, values={"db": "old", "web": "old"})
    made.drive()
    made.outside.values["rows"] = "12"
    assert back(made) is ExitCode.HELD
    assert "12 rows" in made.state.why and "--accept-loss db" in made.state.why
    assert made.outside.values["web"] == "new", "nothing was undone"
    assert back(made, "web") is ExitCode.HELD, "another name is no acceptance"
    made.outside.values["rows"] = "13"
    assert back(made, "db") is ExitCode.ROLLED_BACK
    assert made.outside.values["db"] == "old"
    [intent] = [e for e in made.store.events(made.run_id)
                if (e.node, e.op, e.kind) == ("db", "undo", "intent")]
    assert intent.data["loss"] == {"what": "13 rows", "rows": 13}, "what it was at that moment"


def test_a_loss_that_comes_up_on_the_way_back_stops_it_there(tmp_path: Path) -> None:
    made = lab(tmp_path, PRECIOUS, AFTER, values={"db": "old", "web": "old"})
    made.drive()
    made.outside.values["web"] = "old"

    class Late(Precious):
        asked: ClassVar[int] = 0

        def loss(self, before: Observation, reads: Reads) -> Loss | None:
            type(self).asked += 1
            return Loss(what="one row", rows=1) if type(self).asked > 1 else None

    miniworld.KINDS["precious"] = Late
    assert back(made) is ExitCode.NOT_RESTORED
    assert "one row" in made.state.nodes["db"].detail
    assert made.outside.values["db"] == "new"


def test_what_nobody_can_tell_counts_as_a_loss(tmp_path: Path) -> None:
    made = lab(tmp_path, PRECIOUS, values={"db": "old", "rows": "?"})
    made.drive()
    assert back(made) is ExitCode.HELD
    assert "nobody can tell what would be lost: nobody answers" in made.state.why
    assert made.outside.values["db"] == "new"


def test_an_accepted_loss_of_what_cannot_be_put_back_is_on_record(tmp_path: Path) -> None:
    gone = step("db", "precious", args={"key": "db", "value": "gone"})
    made = lab(tmp_path, gone, values={"db": "old"})
    made.drive()
    made.outside.values["rows"] = "3"
    assert back(made) is ExitCode.HELD
    assert back(made, "db") is ExitCode.NOT_RESTORED
    assert made.state.phase is RunPhase.NOT_RESTORED
    [event] = [e for e in made.store.events(made.run_id) if e.kind == "irreversible"]
    assert event.data["loss"]["rows"] == 3
