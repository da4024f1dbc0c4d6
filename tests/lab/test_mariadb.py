"""MariaDB moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import mariadb
from tests.lab.lab import Lab
from tests.lab.mariadb import NEW, OLD, Writer, ids
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.runs import Runs

pytestmark = [*marks, without("mariadbd")]

SWITCHOVER = "  - {id: database, playbook: mysql/switchover, with: {from: east, to: west}}\n"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab.open() as lab:
        mariadb.make_pair(lab)
        yield lab


@pytest.fixture
def runs(pair: Lab, tmp_path: Path) -> Runs:
    return Runs(pair, tmp_path, mariadb.databases(), DB_PASSWORD=mariadb.PASSWORD)


def test_the_primary_moves_and_comes_back_and_no_write_is_lost(pair: Lab, runs: Runs) -> None:
    with Writer(pair) as writer:
        wait_for("writes", lambda: len(writer.acknowledged) > 20)
        code, state, text = runs.run(SWITCHOVER)
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        moved = len(writer.acknowledged)
        wait_for("writes on the new side", lambda: len(writer.acknowledged) > moved + 20)
        assert writer.acknowledged <= ids(pair, NEW) | set(list(writer.acknowledged)[-1:])
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        back = len(writer.acknowledged)
        wait_for("writes on the old side", lambda: len(writer.acknowledged) > back + 20)
    assert writer.acknowledged <= ids(pair, OLD)
    wait_for("the replica has them too", lambda: writer.acknowledged <= ids(pair, NEW))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["freeze", "caught-up", "promote", "thaw", "rejoin"])
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    with Writer(pair) as writer:
        wait_for("writes", lambda: len(writer.acknowledged) > 10)
        code, state, text = runs.run(
            SWITCHOVER, head="policy: {on_failure: rollback}\n", fail=f"database/{step}"
        )
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        back = len(writer.acknowledged)
        wait_for("writes on the old side", lambda: len(writer.acknowledged) > back + 10)
    assert writer.acknowledged <= ids(pair, OLD)
    wait_for("the replica has them too", lambda: writer.acknowledged <= ids(pair, NEW))


def test_a_replica_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    pair.partition("east", "west")
    try:
        with Writer(pair) as writer:
            wait_for("writes", lambda: len(writer.acknowledged) > 20)
            code, state, text = runs.run(
                "  - {id: freeze, kind: mysql.freeze, with: {database: east}}\n"
                "  - {id: promote, kind: mysql.promote, with: {database: west, old: east}}\n",
                head="policy: {on_failure: rollback}\n",
            )
            assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
            assert "acknowledged writes would be lost" in text
        assert writer.acknowledged <= ids(pair, OLD)
    finally:
        pair.heal()
