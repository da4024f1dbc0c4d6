"""Redis moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import redis as lab_redis
from tests.lab import switchover
from tests.lab.lab import Lab
from tests.lab.needs import marks, without
from tests.lab.redis import RedisWriter, ids
from tests.lab.runs import Runs
from tests.lab.switchover import fails_and_is_as_before, is_not_promoted, moves_and_comes_back

pytestmark = [*marks, without("redis-server")]

SWITCHOVER = "  - {id: cache, playbook: redis/switchover, with: {from: east, to: west}}\n"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab.open(files=lab_redis.files()) as lab:
        lab_redis.wait_until_following(lab)
        yield lab


@pytest.fixture
def runs(pair: Lab, tmp_path: Path) -> Runs:
    return Runs(pair, tmp_path, lab_redis.databases(), DB_PASSWORD=switchover.PASSWORD)


def test_the_primary_moves_and_comes_back_and_no_write_is_lost(pair: Lab, runs: Runs) -> None:
    moves_and_comes_back(pair, runs, SWITCHOVER, RedisWriter(pair), ids)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["freeze", "caught-up", "promote", "thaw", "rejoin"])
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    fails_and_is_as_before(pair, runs, SWITCHOVER, f"cache/{step}", RedisWriter(pair), ids)


def test_a_replica_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    is_not_promoted(pair, runs, (
        "  - {id: freeze, kind: redis.freeze, with: {database: east}}\n"
        "  - {id: promote, kind: redis.promote, with: {database: west, old: east}}\n"
    ), RedisWriter(pair), ids)
