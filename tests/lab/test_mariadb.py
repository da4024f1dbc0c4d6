"""MariaDB moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import mariadb, switchover
from tests.lab.lab import Lab
from tests.lab.mariadb import MariadbWriter, ids
from tests.lab.needs import marks, without
from tests.lab.runs import Runs
from tests.lab.switchover import fails_and_is_as_before, is_not_promoted, moves_and_comes_back

pytestmark = [*marks, without("mariadbd")]

SWITCHOVER = "  - {id: database, playbook: mysql/switchover, with: {from: east, to: west}}\n"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab.open() as lab:
        mariadb.make_pair(lab)
        yield lab


@pytest.fixture
def runs(pair: Lab, tmp_path: Path) -> Runs:
    return Runs(pair, tmp_path, mariadb.databases(), DB_PASSWORD=switchover.PASSWORD)


def test_the_primary_moves_and_comes_back_and_no_write_is_lost(pair: Lab, runs: Runs) -> None:
    moves_and_comes_back(pair, runs, SWITCHOVER, MariadbWriter(pair), ids)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["freeze", "caught-up", "promote", "thaw", "rejoin"])
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    fails_and_is_as_before(pair, runs, SWITCHOVER, f"database/{step}", MariadbWriter(pair), ids)


def test_a_replica_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    is_not_promoted(pair, runs, (
        "  - {id: freeze, kind: mysql.freeze, with: {database: east}}\n"
        "  - {id: promote, kind: mysql.promote, with: {database: west, old: east}}\n"
    ), MariadbWriter(pair), ids)
