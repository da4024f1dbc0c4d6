"""Sessions with real servers: PostgreSQL, MariaDB, Redis."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt, NotFound
from runbook.model.actions import ANSWER, ExecuteSql, Question
from runbook.model.database import Engine
from runbook.transports.net_dial import SocketLike
from tests.transports.database.servers import PASSWORD, Server, find, make, transport
from tests.transports.ssh_lab import key, until

PROGRAMS: dict[Engine, str] = {
    "postgres": "initdb", "mysql": "mariadbd", "redis": "redis-server",
}


@pytest.fixture(scope="module", params=list(PROGRAMS))
def started(request: pytest.FixtureRequest) -> Iterator[Server]:
    engine: Engine = request.param
    if find(PROGRAMS[engine]) is None:
        pytest.skip(f"{PROGRAMS[engine]} is not installed")
    # Not below pytest's own folder: no other user may enter that, and servers run as one.
    with tempfile.TemporaryDirectory(prefix="runbook-db-") as name:
        server = make(engine, Path(name) / engine)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    yield started
    if started.process is None:
        started.start()


WRITE = {
    "postgres": "CREATE TABLE IF NOT EXISTS t (a int)",
    "mysql": "CREATE TABLE IF NOT EXISTS shop.t (a int)",
    "redis": "SET t 1",
}
READ = {"postgres": "SELECT 1 + 1", "mysql": "SELECT 1 + 1", "redis": "DBSIZE"}
WRONG = {"postgres": "SELEC 1", "mysql": "SELEC 1", "redis": "GETT t"}
CODE = {"postgres": "42601", "mysql": "1064", "redis": "unknown"}
SLEEP = {"postgres": "SELECT pg_sleep(20)", "mysql": "SELECT SLEEP(20)"}


def execute(*statements: str) -> ExecuteSql:
    return ExecuteSql(database="east", statements=statements)


def test_reads_answer_and_cannot_write(server: Server) -> None:
    with transport(server) as databases:
        reads = databases.reads("east")
        answer = reads.query(READ[server.engine])
        assert answer.ok and isinstance(answer.value, int)
        refused = reads.query(WRITE[server.engine])
        assert not refused.ok and refused.code in {"25006", "1792", "READONLY"}
        wrong = reads.query(WRONG[server.engine])
        assert (wrong.ok, wrong.code) == (False, CODE[server.engine])
        assert reads.query(READ[server.engine]).ok, "a refusal does not cost the session"


def test_statements_are_executed_until_one_is_refused(server: Server) -> None:
    with transport(server) as databases:
        done = databases.perform(execute(WRITE[server.engine]), key())
        assert done.ok
        bad = databases.perform(
            execute(WRITE[server.engine], WRONG[server.engine], WRITE[server.engine]), key()
        )
        assert not bad.ok and "the 1 before it took effect" in bad.detail
        last = databases.perform(execute(WRITE[server.engine], READ[server.engine]), key())
        assert last.data["rows"][0][0] >= 0


def test_a_statement_is_given_what_another_server_answers_as_it_begins(server: Server) -> None:
    if server.engine == "redis":
        pytest.skip("its commands have no quotes to stand between")
    ask = Question(database="east", statement="SELECT 'it''s'")
    asking = execute(f"SELECT '{ANSWER}'").model_copy(update={"ask": ask})
    with transport(server) as databases:
        done = databases.perform(asking, key())
        assert done.ok and done.data["rows"] == [["it's"]]
        wrong = Question(database="east", statement=WRONG[server.engine])
        with pytest.raises(Errored, match=r"database east: 'SELEC 1'"):
            databases.perform(asking.model_copy(update={"ask": wrong}), key())


def test_what_is_open_is_used_and_what_died_is_opened_anew(server: Server) -> None:
    with transport(server) as databases:
        databases.prepare()
        server.stop()
        with pytest.raises(Errored, match="database east cannot be opened") as fault:
            databases.perform(execute(WRITE[server.engine]), key())
        assert PASSWORD not in str(fault.value) and "east-db, port" in fault.value.hint
        with pytest.raises(Errored):
            databases.reads("east").query(READ[server.engine])
        server.start()
        assert databases.perform(execute(WRITE[server.engine]), key()).ok
        assert databases.reads("east").query(READ[server.engine]).ok


def test_a_server_killed_during_a_statement_leaves_a_doubt(server: Server) -> None:
    if server.engine not in SLEEP:
        pytest.skip("Redis runs one command at a time: there is none to wait in")
    with transport(server) as databases, ThreadPoolExecutor(1) as threads:
        databases.prepare()
        under_way = threads.submit(databases.perform, execute(SLEEP[server.engine]), key())
        list_them = {
            "postgres": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2%' "
                        "AND state = 'active' AND pid <> pg_backend_pid()",
            "mysql": "SELECT count(*) FROM information_schema.processlist "
                     "WHERE info LIKE 'SELECT SLEEP(%'",
        }[server.engine]
        while not databases.reads("east").query(list_them).value:
            assert not under_way.done()
        server.stop()
        with pytest.raises(InDoubt, match="the connection was lost during"):
            under_way.result(20)
        assert databases.resolve(execute(SLEEP[server.engine]), key()).outcome == "unknown"


def test_a_statement_that_takes_too_long_is_ended(server: Server) -> None:
    if server.engine not in SLEEP:
        pytest.skip("nothing in Redis takes long")
    with transport(server) as databases:
        slow = ExecuteSql(database="east", statements=(SLEEP[server.engine],), timeout=0.3)
        if server.engine == "postgres":
            assert "statement timeout" in databases.perform(slow, key()).detail
        else:
            with pytest.raises(InDoubt):
                databases.perform(slow, key())
        assert databases.perform(execute(WRITE[server.engine]), key()).ok


def test_a_refused_login_says_which_database(server: Server) -> None:
    user = None if server.engine == "redis" else "nobody"
    with (
        transport(server, user=user, password=None) as databases,
        pytest.raises(Errored, match="database east cannot be opened"),
    ):
        databases.prepare()


def test_a_secret_in_a_statement_is_escaped_and_not_told(server: Server) -> None:
    mark = "⟦secret:db⟧"
    with transport(server) as databases:
        if server.engine == "redis":
            with pytest.raises(Exception, match="MONITOR"):
                databases.perform(execute(f"SET t {mark}"), key())
            return
        done = databases.perform(execute(f"SELECT '{mark}' = '{mark}', length('{mark}')"), key())
        assert done.data["rows"] == [[done.data["rows"][0][0], len(PASSWORD)]]
        assert PASSWORD not in done.detail
        bad = databases.perform(execute(f"SELEC '{mark}'"), key())
        assert PASSWORD not in bad.detail


def test_through_a_tunnel_of_ours(server: Server) -> None:
    asked = []

    def dial(host: str, address: str, port: int) -> SocketLike:
        asked.append((host, address, port))
        return socket.create_connection((address, port))

    with transport(server, dial, via="east-db") as databases:
        databases.prepare()
        assert databases.reads("east").query(READ[server.engine]).ok
        assert asked == [("east-db", "127.0.0.1", server.port)] * 2
        folder = Path(databases.reads("east")._place.address.socket_dir)  # type: ignore[union-attr]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_tunnel_that_cannot_be_made_says_so(server: Server) -> None:
    with (
        transport(server, via="east-db") as databases,
        pytest.raises(Errored, match="no tunnel from east-db"),
    ):
        databases.prepare()


def test_many_readers_at_once(server: Server) -> None:
    with transport(server) as databases, ThreadPoolExecutor(8) as threads:
        answers = threads.map(databases.reads("east").query, [READ[server.engine]] * 100)
        assert all(answer.ok for answer in answers)


def test_an_unknown_name(server: Server) -> None:
    with transport(server) as databases, pytest.raises(NotFound, match="no database 'west'"):
        databases.reads("west")


TRIED = {"postgres": "INSERT INTO t VALUES (7)", "mysql": "INSERT INTO shop.t VALUES (7)",
         "redis": "SET tried 7"}
THERE = {"postgres": "SELECT count(*) FROM t WHERE a = 7",
         "mysql": "SELECT COUNT(*) FROM shop.t WHERE a = 7", "redis": "EXISTS tried"}
FREEZE = {"postgres": ("ALTER SYSTEM SET default_transaction_read_only = on",
                       "SELECT pg_reload_conf()"),
          "mysql": (), "redis": ("CONFIG SET min-replicas-to-write 1000",)}
THAW = {"postgres": ("ALTER SYSTEM RESET default_transaction_read_only",
                     "SELECT pg_reload_conf()"),
        "mysql": (), "redis": ("CONFIG SET min-replicas-to-write 0",)}
REFUSAL = {"postgres": "25006", "mysql": "1290", "redis": "NOREPLICAS"}


def test_a_trial_leaves_nothing_behind_and_succeeds_by_being_refused(server: Server) -> None:
    engine = server.engine
    trial = execute(TRIED[engine]).model_copy(update={"refused_with": (REFUSAL[engine],)})
    with transport(server) as databases:
        assert databases.perform(execute(WRITE[engine]), key()).ok
        taken = databases.perform(trial, key())
        assert not taken.ok and "it accepted" in taken.detail
        assert databases.reads("east").query(THERE[engine]).value == 0
        wrong = execute(WRONG[engine]).model_copy(update={"refused_with": (REFUSAL[engine],)})
        other = databases.perform(wrong, key())
        assert not other.ok and "proves nothing" in other.detail
        if not FREEZE[engine]:
            return  # MariaDB binds no login with READ ONLY ADMIN: see the lab.
        assert databases.perform(execute(*FREEZE[engine]), key()).ok
        try:
            until(lambda: databases.perform(trial, key()).ok, 10)
            # The session that acts still may.
            assert databases.perform(execute("SELECT 1" if engine == "postgres" else "PING"),
                                     key()).ok
        finally:
            assert databases.perform(execute(*THAW[engine]), key()).ok
