"""The old primary's power is cut while a database moves, at each step in turn, with somebody who
writes; it comes back, and boots its server as its machine always does.

A link that has died without a word is noticed after 20 s and more, several times over, so this is
no part of `make test`. All of it, about twenty minutes; or name an engine, a step, or both:

    LAB_POWER=all python -m pytest tests/lab/test_switchover_power.py
    LAB_POWER=mysql-promote python -m pytest tests/lab/test_switchover_power.py
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import mariadb, postgres
from tests.lab import redis as lab_redis
from tests.lab.lab import Lab
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import BACK, NEW, OLD, PASSWORD, Ids, Writer

ASKED = os.environ.get("LAB_POWER", "")

pytestmark = [
    *marks, pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="takes twenty minutes: LAB_POWER=all plays it"),
    pytest.mark.skipif(not postgres.programs(), reason="no PostgreSQL here"), without("mariadbd"),
    without("redis-server"),
]


@dataclass(frozen=True)
class Engine:
    """``pair`` makes both servers in a new lab; ``boots`` are the files that start one with its
    machine;
    ``primary`` is whether the server on a host takes writes, None while it does not answer."""

    name: str
    steps: tuple[str, ...]
    boots: Callable[[str], dict[str, str]]
    pair: Callable[[Lab], None]
    databases: Callable[[], str]
    writer: Callable[[Lab], Writer]
    ids: Ids
    primary: Callable[[Lab, str], bool | None]
    more: str = ""

    @property
    def switchover(self) -> str:
        return (f"  - {{id: database, playbook: {self.name}/switchover, "
                f"with: {{from: east, to: west{self.more}}}}}\n")

    @contextmanager
    def opened(self) -> Iterator[Lab]:
        files = {host: self.boots(host) for host in (OLD, NEW)}
        with Lab.open(files=files) as lab:
            self.pair(lab)
            yield lab


def _postgres_primary(lab: Lab, host: str) -> bool | None:
    if not postgres.running(lab, host):
        return None
    return postgres.ask(lab, host, "SELECT pg_is_in_recovery()") == "f"


def _mysql_primary(lab: Lab, host: str) -> bool | None:
    return {"0\n": True, "1\n": False}.get(mariadb.ask(lab, host, "SELECT @@GLOBAL.read_only"))


def _redis_primary(lab: Lab, host: str) -> bool | None:
    told = lab_redis.ask(lab, host, "info", "replication")
    if "role:" not in told:
        return None
    frozen = "1000" in lab_redis.ask(lab, host, "config", "get", "min-replicas-to-write")
    return "role:master" in told and not frozen


BOOT = "/etc/runbook-lab/boot.d/database"
ENGINES = (
    Engine(
        "postgres", ("freeze", "fence", "promote", "thaw", "rejoin", "ready"),
        lambda _: {BOOT: postgres.boot()},
        postgres.make_pair, postgres.databases, postgres.PostgresWriter, postgres.ids,
        _postgres_primary,
    ),
    Engine(
        "mysql", ("freeze", "caught-up", "promote", "thaw", "rejoin"),
        lambda host: {BOOT: mariadb.boot(host)},
        mariadb.make_pair, mariadb.databases, mariadb.MariadbWriter, mariadb.ids, _mysql_primary,
    ),
    Engine(
        "redis", ("freeze", "caught-up", "promote", "thaw", "rejoin"),
        lambda host: lab_redis.files(durable=True)[host], lab_redis.wait_until_following,
        lab_redis.databases, lab_redis.RedisWriter, lab_redis.ids, _redis_primary,
        more=", persist: true",
    ),
)
CASES = [
    pytest.param(engine, step, id=f"{engine.name}-{step}")
    for engine in ENGINES for step in engine.steps
    if ASKED in {"", "all", engine.name, step, f"{engine.name}-{step}"}
]


@pytest.mark.parametrize(("engine", "step"), CASES)
def test_the_old_primary_loses_its_power(tmp_path: Path, engine: Engine, step: str) -> None:
    with engine.opened() as lab:
        runs = Runs(lab, tmp_path, engine.databases(), DB_PASSWORD=PASSWORD)
        with engine.writer(lab) as writer:
            _lose_power_and_come_back(lab, runs, engine, step, writer)
        assert writer.acknowledged <= engine.ids(lab, OLD)
        wait_for("the other side has them too",
                 lambda: writer.acknowledged <= engine.ids(lab, NEW), 60)


def _lose_power_and_come_back(
    lab: Lab, runs: Runs, engine: Engine, step: str, writer: Writer
) -> None:
    writer.more(20)
    cutter = threading.Thread(target=_cut_at, args=(lab, runs, engine.steps, step))
    cutter.start()
    code, state, text = runs.run(engine.switchover, head=BACK, patience=400)
    cutter.join()
    # The last steps may be quicker than whoever cuts the power.
    done = code == ExitCode.OK and step in engine.steps[-2:]
    assert done or code in {ExitCode.HELD, ExitCode.NOT_RESTORED, ExitCode.IN_DOUBT}, text
    assert "east" in text, text
    promoted = bool(engine.primary(lab, NEW))
    if promoted:
        # It had everything, and goes on: what cannot be taken back is not begun.
        writer.more(10)
        known = set(writer.acknowledged)
        assert known <= engine.ids(lab, NEW)
        if not done:
            assert state.phase is RunPhase.HELD
            # Whether the command had begun on the machine that lost its power decides the words.
            assert "nobody can tell what would be lost" in text or "in doubt: database/" in text
    lab.power_on(OLD)
    wait_for("its server is back", lambda: engine.primary(lab, OLD) is not None, 60)
    if promoted:
        assert engine.primary(lab, OLD) is False, "two primaries"
        if not done:
            code, state, text = runs.command("resume", "--plain")
            assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        writer.more(10)
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    writer.more(10)


def _cut_at(lab: Lab, runs: Runs, steps: tuple[str, ...], step: str) -> None:
    """Cut the power as a step begins: once the one before it is verified."""
    before = steps.index(step) - 1

    def begun() -> bool:
        nodes = runs.nodes()
        if before < 0:
            return bool(nodes) and nodes["database/freeze"].state is not NodeState.PENDING
        return bool(nodes) and nodes[f"database/{steps[before]}"].state is NodeState.VERIFIED

    wait_for("the step begins", begun, 60)
    lab.power_cut(OLD)
