"""PostgreSQL moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import postgres
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.postgres import PostgresWriter, ids
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import (
    OLD,
    PASSWORD,
    fails_and_is_as_before,
    is_not_promoted,
    moves_and_comes_back,
)

pytestmark = [*marks, pytest.mark.skipif(not postgres.programs(), reason="no PostgreSQL here")]


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab.open() as lab:
        postgres.make_pair(lab)
        yield lab


@pytest.fixture
def runs(pair: Lab, tmp_path: Path) -> Runs:
    return Runs(pair, tmp_path, postgres.databases(), DB_PASSWORD=PASSWORD)


SWITCHOVER = """\
  - id: database
    playbook: postgres/switchover
    with: {from: east, to: west}
"""


def test_the_primary_moves_and_comes_back_and_no_write_is_lost(pair: Lab, runs: Runs) -> None:
    moves_and_comes_back(pair, runs, SWITCHOVER, PostgresWriter(pair), ids)


FREEZE = "  - {id: freeze, kind: postgres.freeze, with: {database: east, lease: 4s}}\n"
FENCE = "  - {id: fence, kind: postgres.fence, with: {database: east, standby: west}}\n"
GATE = "  - {id: go, kind: gate.approve, with: {question: Go on?}}\n"


def test_a_controller_that_is_killed_after_the_freeze_does_not_keep_it(
    pair: Lab, runs: Runs
) -> None:
    with PostgresWriter(pair) as writer:
        controller = runs.start(FREEZE + GATE + FENCE)
        wait_for("the question is asked", runs.asked)
        frozen = len(writer.acknowledged)
        # Alive, it keeps the freeze for longer than the lease.
        with pytest.raises(AssertionError, match="in vain"):
            wait_for("a write", lambda: len(writer.acknowledged) > frozen, patience=6)
        controller.kill()
        controller.wait()
        wait_for("writes come back", lambda: len(writer.acknowledged) > frozen + 10, patience=8)
        # Who comes back later is not allowed to go on as if nothing had happened.
        assert runs.command("approve", "go")[0] == ExitCode.OK
        code, state, text = runs.command("resume", "--plain")
        assert (code, state.phase) == (ExitCode.HELD, RunPhase.HELD), text
        assert "dead man's switch of east fired" in text and "writes came back" in text
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert writer.acknowledged <= ids(pair, OLD)


STEPS = ("freeze", "drained", "fence", "caught-up", "promote", "thaw", "rejoin")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    fails_and_is_as_before(
        pair, runs, SWITCHOVER, f"database/{step}", PostgresWriter(pair), ids
    )


def test_a_side_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    is_not_promoted(pair, runs, (
        "  - {id: freeze, kind: postgres.freeze, with: {database: east}}\n"
        "  - {id: fence, kind: postgres.fence, with: {database: east, standby: west}}\n"
        "  - {id: promote, kind: postgres.promote, with: {database: west, old: east}}\n"
    ), PostgresWriter(pair), ids)
