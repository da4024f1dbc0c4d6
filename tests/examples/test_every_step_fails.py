"""Every step of the example fails in turn, right after it took effect; the world is as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runbook.cli.embedded import embedded
from runbook.cli.session import Show, start
from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.journal import open_store
from runbook.model.runstate import fold
from runbook.model.state import NodeState

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop-2009"
STEPS = tuple(load_plan(EXAMPLE / "runbook.yml", []).by_id)


def hurried(directory: Path) -> Path:
    """A copy of the example in which even a wait of two days takes a tenth of a second."""
    copy = directory / "shop"
    shutil.copytree(EXAMPLE, copy)
    config = copy / "sandbox.yml"
    text = config.read_text()
    assert "longest_wait: 3s" in text
    config.write_text(text.replace("longest_wait: 3s", "longest_wait: 0.1s"))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("failing", STEPS)
def test_the_world_is_as_before(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = hurried(tmp_path)
    plan = load_plan(example / "runbook.yml", [])
    store = open_store(tmp_path / "state")
    with embedded(plan, example / "sandbox.yml", fail=(failing,), traffic=False) as played:
        before = played.world.fingerprint()
        run_id, driven = start(
            plan, store, level="sandbox", endpoints_file=str(played.endpoints_file),
            show=Show.NOTHING,
        )
        changed = played.world.diff(before, played.world.fingerprint())
    state = fold(run_id, *store.load(run_id))
    assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
    assert changed == []
    touched = [n for n in state.nodes.values() if n.intended]
    assert {n.state for n in touched} <= {NodeState.ROLLED_BACK}
    assert state.step_state(failing) in {NodeState.ROLLED_BACK, NodeState.FAILED}


def test_a_world_that_was_changed_is_told_from_one_that_was_not(tmp_path: Path) -> None:
    """The fingerprint can fail: a file somebody adds is seen."""
    example = hurried(tmp_path)
    plan = load_plan(example / "runbook.yml", [])
    with embedded(plan, example / "sandbox.yml", traffic=False) as played:
        before = played.world.fingerprint()
        played.world.run("east-web", "echo x > shop/extra")
        assert any("extra" in line
                   for line in played.world.diff(before, played.world.fingerprint()))
