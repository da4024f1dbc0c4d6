"""`runbook demo` as a newcomer types it, on a hurried copy of the example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook.journal import open_store
from runbook.model.folding import fold
from runbook.model.runstate import RunState
from runbook.model.state import RunPhase
from tests.cli.running import runbook
from tests.sandbox.worlds import hurried

pytestmark = pytest.mark.slow


def demo(directory: Path, *arguments: str, code: int = 0) -> tuple[str, RunState, dict[str, int]]:
    """Its output, the run it made, and the verdict of the judge."""
    example = hurried(directory)
    done = runbook(
        directory, "demo", "--plain", "--example", str(example / "runbook.yml"), *arguments,
        code=code, timeout=170,
    )
    store = open_store(directory / "state")
    run_id = store.latest_run_id() or ""
    judgement = json.loads((store.run_directory(run_id) / "judgement.json").read_text())
    assert (store.run_directory(run_id) / "report.html").exists()
    return done.stdout, fold(run_id, *store.load(run_id)), judgement


def test_the_move_loses_no_order(tmp_path: Path) -> None:
    shown, state, judgement = demo(tmp_path)
    assert state.phase is RunPhase.DONE
    assert judgement["writes_acknowledged"] > 20
    assert judgement["writes_lost"] == 0
    assert judgement["reads_fallback"] > 0, "visitors saw the fallback page meanwhile"
    assert "acknowledged orders lost     │" in shown


def test_failing_at_the_flip_comes_back(tmp_path: Path) -> None:
    shown, state, judgement = demo(tmp_path, "--fail", "flip")
    assert state.phase is RunPhase.ROLLED_BACK
    assert judgement["writes_lost"] == 0
    assert "files, zones and services are the same" in shown.replace("\n", " ")


def test_killed_in_the_freeze_it_is_resumed(tmp_path: Path) -> None:
    shown, state, judgement = demo(tmp_path, "--kill", "freeze")
    assert "The controller was killed" in shown
    assert state.resumed == 1
    assert state.phase is RunPhase.DONE
    assert judgement["writes_lost"] == 0


def test_without_the_freeze_orders_are_lost_and_the_judge_says_so(tmp_path: Path) -> None:
    """The judge can fail."""
    shown, state, judgement = demo(tmp_path, "--skip", "freeze", code=25)
    assert state.phase is RunPhase.DONE
    assert judgement["writes_lost"] > 0
    assert f"The judge: {judgement['writes_lost']} orders were acknowledged" in shown
