"""Redis moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import redis as lab_redis
from tests.lab import switchover
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.redis import RedisWriter, ask, ids
from tests.lab.runs import Runs
from tests.lab.switchover import (
    BACK,
    NEW,
    OLD,
    a_freeze_is_proven,
    a_probe_shows_what_is_missing,
    comes_back_when_its_controller_is_killed,
    fails_and_is_as_before,
    is_not_promoted,
    moves_and_comes_back,
    stays_frozen_after_the_promotion,
)

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


def test_a_probe_shows_rights_and_replication(pair: Lab, runs: Runs) -> None:
    rules = f"on '>{switchover.PASSWORD}' '~*' +@all '-config|set' -replicaof"
    for host in (OLD, NEW):
        ask(pair, host, "acl", "setuser", "app", rules)
    try:
        a_probe_shows_what_is_missing(
            runs, "redis/switchover",
            lambda line: line.replace("password:", "user: app, password:"),
            fits=("west follows east closely", "west and east are of one major version"), lacking=(
                "east-weak lets us switch writes off and on: This user has no permissions to run "
                "the 'config|set' command",
                "west-weak lets us promote it: This user has no permissions",
            ),
        )
    finally:
        for host in (OLD, NEW):
            ask(pair, host, "acl", "deluser", "app")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["freeze", "caught-up", "promote", "thaw", "rejoin"])
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    fails_and_is_as_before(pair, runs, SWITCHOVER, f"cache/{step}", RedisWriter(pair), ids)


def test_a_replica_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    is_not_promoted(pair, runs, (
        "  - {id: freeze, kind: redis.freeze, with: {database: east}}\n"
        "  - {id: promote, kind: redis.promote, with: {database: west, old: east}}\n"
    ), RedisWriter(pair), ids)


FROZEN = "  - {id: freeze, kind: redis.freeze, with: {database: east}}\n"
COMPARE = "  - {id: same, kind: redis.compare, with: {primary: east, replica: west, %s}}\n"


def test_both_sides_are_compared_and_what_differs_is_told_by_key(pair: Lab, runs: Runs) -> None:
    fill = (
        "for i = 1, 700 do redis.call('SET', 'text:' .. i, i, 'EX', 3600 + i) end "
        "for i = 1, 600 do redis.call('SADD', 'set', i); redis.call('HSET', 'hash', i, i * 2); "
        "redis.call('ZADD', 'zset', i / 7, i); redis.call('RPUSH', 'list', i); "
        "redis.call('XADD', 'stream', i .. '-1', 'a', i) end "
        "redis.call('SET', string.char(0, 255, 39, 10), 'x')"
    )
    ask(pair, OLD, "eval", f'"{fill}"', "0")
    with RedisWriter(pair) as writer:
        writer.more(20)
        code, state, text = runs.run(FROZEN + COMPARE % "chunk: 90")
        assert code == ExitCode.OK, text
        assert state.nodes["same"].outputs["rows"] == 700 + 5 + 1 + 1
        assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    ask(pair, NEW, "config", "set", "replica-read-only", "no")
    ask(pair, NEW, "zadd", "zset", "8", "77")
    ask(pair, NEW, "expire", "text:5", "9999")
    ask(pair, NEW, "del", "text:6")
    ask(pair, NEW, "set", "only:here", "1")
    code, state, text = runs.run(FROZEN + COMPARE % "chunk: 5000", head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    told = state.nodes["same"].detail
    assert "1 missing on west (text:6)" in told and "2 different" in told
    assert "zset" in told and "text:5" in told
    ask(pair, NEW, "set", "only:there", "1")
    code, state, text = runs.run(FROZEN + COMPARE % "exclude: [zset, text:*]", head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    assert "only on west (only:" in state.nodes["same"].detail
    ask(pair, NEW, "config", "set", "replica-read-only", "yes")
    ask(pair, NEW, "replicaof", "no", "one")
    ask(pair, NEW, "replicaof", MACHINES[OLD], "6379")
    lab_redis.wait_until_following(pair)


LEASED = "  - {id: freeze, kind: redis.freeze, with: {database: east, lease: 4s}}\n"
PROMOTE = "  - {id: promote, kind: redis.promote, with: {database: west, old: east}}\n"


def test_a_controller_that_is_killed_after_the_freeze_does_not_keep_it(
    pair: Lab, runs: Runs
) -> None:
    comes_back_when_its_controller_is_killed(pair, runs, LEASED, PROMOTE, RedisWriter(pair), ids)


def test_after_a_promotion_nothing_comes_back_on_the_old_side(pair: Lab, runs: Runs) -> None:
    stays_frozen_after_the_promotion(pair, runs, LEASED + (
        "  - {id: caught-up, kind: redis.catch_up, with: {primary: east, replica: west}}\n"
    ) + PROMOTE, (
        "  - {id: thaw, kind: redis.thaw, with: {database: west}}\n"
        "  - {id: rejoin, kind: redis.rejoin, with: {database: east, primary: west}}\n"
    ), RedisWriter(pair), ids,
        lambda: "1000" not in ask(pair, OLD, "config", "get", "min-replicas-to-write"))


def test_a_freeze_is_proven_by_a_refused_write_and_by_standing_still(
    pair: Lab, runs: Runs
) -> None:
    proof = "  - {id: proof, kind: writes.sentinel, with: {database: east, still: 300ms}}\n"
    a_freeze_is_proven(runs, FROZEN, proof)
    assert ask(pair, OLD, "exists", "runbook_sentinel") == "0\n"


def test_what_is_kept_is_in_the_configuration_files_until_it_is_taken_back(
    pair: Lab, runs: Runs
) -> None:
    def kept(host: str) -> list[str]:
        lines = pair[host].run("cat /etc/redis-lab.conf").stdout.splitlines()
        return sorted(line for line in lines if line.startswith(("replicaof", "min-replicas-to-w")))

    code, _, text = runs.run(SWITCHOVER.replace("to: west", "to: west, persist: true"))
    assert code == ExitCode.OK, text
    # Closed as a replica; and open, should a person make it the primary in an emergency.
    assert kept(OLD) == ["min-replicas-to-write 0", f"replicaof {MACHINES[NEW]} 6379"]
    assert kept(NEW) == []
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    assert kept(OLD) == ["min-replicas-to-write 0"]
    assert kept(NEW) == ["min-replicas-to-write 0", f"replicaof {MACHINES[OLD]} 6379"]


def test_nothing_can_be_kept_where_there_is_no_file(pair: Lab, runs: Runs) -> None:
    pair[OLD].run(f"setsid redis-server --port 6380 --bind 0.0.0.0 --requirepass "
                  f"{switchover.PASSWORD} </dev/null >/dev/null 2>&1 &")
    wait_for("it answers", lambda: "PONG" in ask(pair, OLD, "-p", "6380", "ping"))
    runs.head += f"  bare: {{engine: redis, host: {OLD}, port: 6380, password: db}}\n"
    code, state, text = runs.run(
        "  - {id: freeze, kind: redis.freeze, with: {database: bare, persist: true}}\n")
    assert code == ExitCode.HELD, text
    assert "runs without a configuration file" in state.nodes["freeze"].detail
    assert ask(pair, OLD, "-p", "6380", "set", "a", "1") == "OK\n"
    ask(pair, OLD, "-p", "6380", "shutdown", "nosave")


def test_a_way_back_that_would_lose_keys_shows_them_and_waits_until_it_is_accepted(
    pair: Lab, runs: Runs
) -> None:
    ask(pair, OLD, "set", "shared", "1")
    with RedisWriter(pair) as writer:
        writer.more(10)
        code, state, text = runs.run(SWITCHOVER)
        assert code == ExitCode.OK, text
        writer.more(10)
    for command in ("replicaof no one", "config set min-replicas-to-write 0", "set own:1 x",
                    "set own:2 x", "set shared 2"):
        ask(pair, OLD, *command.split())
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.HELD, RunPhase.HELD), text
    assert "east has taken writes since west was promoted" in text
    assert "3 keys: 2 that west lacks (own:" in text and "1 that west has otherwise" in text
    ask(pair, NEW, "set", "new:1", "x")
    code, state, text = runs.rollback("--accept-loss", "cache/promote")
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert ask(pair, OLD, "mget", "new:1", "shared", "own:1") == "x\n1\n\n"
    assert writer.acknowledged <= ids(pair, OLD)
