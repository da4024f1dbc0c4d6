"""The example cloud-move as it is shipped: the move by the stream and by its fallback branch, taken
back before the commitment; and the back-out plan, for after it."""

from __future__ import annotations

from pathlib import Path

from runbook.engine.rollback import ancestors
from tests.examples.playing import plan_of, rehearse

MOVE, BACK_OUT = plan_of("cloud-move"), plan_of("cloud-move", "back-out.yml")


def test_the_commitment_is_two_peoples_after_all_of_quality_assurance() -> None:
    commit = MOVE.by_id["commit"].nodes[0].args
    assert (commit["roles"], commit["quorum"]) == (["coordinator", "sponsor"], 2)
    assert {s.id for s in MOVE.steps if s.id.startswith("qa/")} <= ancestors(MOVE, "commit")
    assert MOVE.by_id["qa/people"].after == MOVE.by_id["qa/push"].after, "side by side"
    assert [s.id for s in MOVE.steps if s.point_of_no_return] == ["open"]
    assert {"commit", "old-follows"} <= ancestors(MOVE, "open")


def test_from_three_weeks_before_to_two_hours_after() -> None:
    assert MOVE.window is not None
    anchors = {s.id: (s.at - MOVE.window.start) / 3600 for s in MOVE.steps if s.at is not None}
    assert anchors["roles"] == -3 * 7 * 24
    assert anchors["preflight/clocks"] == -7 * 24
    assert (anchors["lower-ttl"], anchors["quiet"], anchors["go"]) == (-24, -1, 0)
    assert anchors["sign-off"] == 2


def test_both_branches_of_the_promotion_meet_before_it() -> None:
    for plan in (MOVE, BACK_OUT):
        assert plan.by_id["cutover/copy"].when is not None
        assert {"cutover/way", "cutover/copy", "cutover/complete"} <= ancestors(
            plan, "cutover/promote")
        for asked in ("cutover/reference", "cutover/last"):
            assert "cutover/freeze" in ancestors(plan, asked), "strictly after the freeze"
        assert {"cutover/drained", "cutover/worker-stops"} <= ancestors(plan, "cutover/freeze")


def test_the_move_by_its_fallback_branch_loses_no_push(tmp_path: Path) -> None:
    said = rehearse("cloud-move", tmp_path, "--var", "patience=0")
    assert (said["ok"], said["phase"]) == (True, "done"), said["why"]
    judged = said["judgement"]
    assert judged["writes_acknowledged"] > 10
    assert judged["writes_lost"] == 0
    assert judged["read_outage"]["count"] == 0, judged["first_errors"]
    assert judged["reads_fallback"] > 0
    assert set(judged["served_by"]) == {"198.51.100.20", "203.0.113.20"}


def test_refused_at_the_commitment_it_goes_back_by_itself(tmp_path: Path) -> None:
    said = rehearse("cloud-move", tmp_path, "--fail", "commit")
    assert said["phase"] == "rolled_back", said["why"]
    assert said["changed"] == [], "the world is as it was"
    assert said["judgement"]["writes_lost"] == 0
    assert said["ok"] is True


def test_after_it_the_back_out_plan_takes_everything_home(tmp_path: Path) -> None:
    said = rehearse("cloud-move", tmp_path, "--config", "sandbox-moved.yml", file="back-out.yml")
    assert (said["ok"], said["phase"]) == (True, "done"), said["why"]
    judged = said["judgement"]
    assert judged["writes_lost"] == 0
    assert set(judged["served_by"]) == {"198.51.100.20", "203.0.113.20"}
