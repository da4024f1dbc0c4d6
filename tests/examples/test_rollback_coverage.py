"""Shipped examples that can be played are covered: whatever step fails, right after it took effect,
everything is put back. By default that is the smallest; all of them, in some minutes more:

    COVER_EXAMPLES=all python -m pytest tests/examples/test_rollback_coverage.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runbook.cli.campaign import Campaign
from runbook.cli.coverage import parse_faults
from runbook.cli.embedded import embedded
from runbook.cli.stages import HURRY, Sandboxes
from runbook.cli.wiring import load_plan
from runbook.engine.coverage import Coverage, Outcome
from runbook.journal import open_store
from runbook.model.folding import fold
from runbook.model.state import NodeState, RunPhase

ROOT = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("*/sandbox.yml"))
BACK_OUT = "cloud-move, back out"
PLAYED = {
    **{name: (name, "runbook.yml", "sandbox.yml") for name in EXAMPLES},
    BACK_OUT: ("cloud-move", "back-out.yml", "sandbox-moved.yml"),
}
"""Folder, runbook and sandbox."""
COVERED = list(PLAYED) if os.environ.get("COVER_EXAMPLES") == "all" else ["shop-2009"]


def cover(played: str, state: Path, *faults: str, steps: tuple[str, ...] = ()) -> Coverage:
    folder, file, sandbox = PLAYED[played]
    plan, store = load_plan(ROOT / folder / file, []), open_store(state)
    stages = Sandboxes(plan, store, ROOT / folder / sandbox, traffic=False)
    return Campaign(plan, store, stages, parse_faults(faults), steps=steps, jobs=2).play()


def told(coverage: Coverage) -> str:
    return "\n".join([*coverage.problems,
                      *(f"{c.step} {c.column}: {c.why}" for c in coverage.cells if not c.good)])


def test_there_are_examples() -> None:
    assert {"shop-2009", "site-switchover", "cloud-move", BACK_OUT} <= set(PLAYED)


@pytest.mark.slow
@pytest.mark.parametrize("played", COVERED)
def test_whatever_step_fails_everything_is_put_back(tmp_path: Path, played: str) -> None:
    coverage = cover(played, tmp_path / "state", "each-step")
    assert coverage.ok, told(coverage)
    assert coverage.undoable
    assert coverage.restored == coverage.undoable
    store = open_store(tmp_path / "state")
    failed = [cell for cell in coverage.cells if cell.column == "fail"]
    calm = fold(coverage.cells[0].run, *store.load(coverage.cells[0].run))
    assert {cell.step for cell in failed} == {
        row.step for row in coverage.steps if calm.step_state(row.step) is not NodeState.SKIPPED}
    for cell in coverage.cells:
        assert cell.outcome in {Outcome.RESTORED, Outcome.IRREVERSIBLE}, cell
        state = fold(cell.run, *store.load(cell.run))
        assert state.phase is (RunPhase.NOT_RESTORED if cell.irreversible
                               else RunPhase.ROLLED_BACK)
        touched = {n.state for n in state.nodes.values() if n.intended}
        assert touched <= {NodeState.ROLLED_BACK, NodeState.IRREVERSIBLE}
        if cell.step:
            assert state.step_state(cell.step) in {
                NodeState.ROLLED_BACK, NodeState.FAILED, NodeState.IRREVERSIBLE}


@pytest.mark.slow
def test_the_shop_survives_what_else_can_happen(tmp_path: Path) -> None:
    """The controller is killed around the effect, SSH is cut behind the command: the move ends as
    it does without, and can be taken back from its very end. Every step so, and more:
    ``runbook rehearse … --faults each-step,kill,kill-back,disconnect,slow=3x``."""
    coverage = cover("shop-2009", tmp_path / "state", "kill", "disconnect",
                     steps=("final-sync", "flip"))
    assert coverage.ok, told(coverage)
    played = {(cell.step, cell.column): cell.outcome for cell in coverage.cells}
    assert played == dict.fromkeys([
        ("", "none"), ("final-sync", "kill-intent"), ("final-sync", "kill-effect"),
        ("final-sync", "cut"), ("flip", "kill-intent"), ("flip", "kill-effect"),
    ], Outcome.RESTORED), "the flip speaks to no host, so it has no SSH to be cut"


def test_a_world_that_was_changed_is_told_from_one_that_was_not() -> None:
    """The fingerprint can fail: a file somebody adds is seen."""
    example = ROOT / "shop-2009"
    plan = load_plan(example / "runbook.yml", [])
    with embedded(
        plan, example / "sandbox.yml", traffic=False, longest_wait=HURRY
    ) as played:
        before = played.world.fingerprint()
        played.world.run("east-web", "echo x > shop/extra")
        assert any("extra" in line
                   for line in played.world.diff(before, played.world.fingerprint()))
