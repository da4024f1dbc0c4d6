"""Whether a freeze outlives a restart of the server: a warning of the probe, from real answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from runbook.kinds import registry
from runbook.model.actions import ExecuteSql
from runbook.model.need import Need
from runbook.model.ports import DatabaseReads
from tests.kinds.fakes import FakeReads
from tests.transports.database.servers import Server, find, make, transport
from tests.transports.database.test_transport import key

WHAT = "east starts closed, should it be restarted under the freeze"


@dataclass
class _Reads(FakeReads):
    asked: DatabaseReads | None = None

    def database(self, name: str) -> DatabaseReads:
        assert self.asked is not None
        return self.asked


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Server]:
    if find("mariadbd") is None:
        pytest.skip("mariadbd is not installed")
    # Not below pytest's own folder: no other user may enter that, and servers run as one.
    with tempfile.TemporaryDirectory(prefix="runbook-db-") as name:
        server = make("mysql", Path(name) / "mysql")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def needs(kind: str, reads: FakeReads, **more: object) -> Need:
    step = registry()[kind].model_validate({"database": "east"} | more)
    [found] = [need for need in step.needs(cast(Any, reads), None) if need.what == WHAT]
    assert not found.grave
    return found


def test_mariadb_tells_where_its_read_only_comes_from(mariadb: Server) -> None:
    with transport(mariadb) as databases:
        found = needs("mysql.freeze", _Reads(asked=databases.reads("east")))
        assert (found.ok, found.seen) == (
            False, "its configuration has no read_only = 1: started again, it takes writes")
        assert "read_only = 1" in found.hint
        set_it = ExecuteSql(database="east", statements=("SET GLOBAL read_only = 0",))
        assert databases.perform(set_it, key()).ok
        found = needs("mysql.freeze", _Reads(asked=databases.reads("east")))
        assert (found.ok, found.seen) == (
            None, "a statement has set read_only since it was started")
    mariadb.stop()
    closed = replace(mariadb, command=[*mariadb.command, "--read-only=1"])
    closed.start()
    try:
        with transport(closed) as databases:
            assert needs("mysql.freeze", _Reads(asked=databases.reads("east"))).ok
    finally:
        closed.stop()
        mariadb.start()


def test_redis_forgets_a_freeze_without_persist() -> None:
    found = needs("redis.freeze", FakeReads())
    assert (found.ok, found.hint) == (False, "persist: true, for each redis step of the move")
    assert needs("redis.freeze", FakeReads(), persist=True).ok
