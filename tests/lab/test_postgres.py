"""PostgreSQL moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import postgres
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import marks
from tests.lab.network import inside
from tests.lab.postgres import PostgresWriter, ids
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import (
    BACK,
    NEW,
    OLD,
    PASSWORD,
    a_freeze_is_proven,
    a_probe_shows_what_is_missing,
    a_replica_that_lags_by_minutes_is_not_promoted,
    comes_back_when_its_controller_is_killed,
    fails_and_is_as_before,
    is_not_promoted,
    moves_and_comes_back,
    stays_frozen_after_the_promotion,
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


def test_a_probe_shows_rights_and_replication(pair: Lab, runs: Runs, tmp_path: Path) -> None:
    """A login without rights, and then one with none but those that are asked for."""
    weak = Runs(pair, tmp_path, postgres.databases().replace("user: postgres,", "user: app,"),
                DB_PASSWORD=PASSWORD)
    a_probe_shows_what_is_missing(
        runs, "postgres/switchover", lambda line: line.replace("user: postgres,", "user: app,"),
        fits=(
            "the server of east can be stopped and started", "west follows east closely",
            "west and east are of one major version", "west takes the connections of east",
        ), lacking=(
            "east-weak lets us switch writes off and on: app lacks ALTER SYSTEM on "
            "default_transaction_read_only and EXECUTE on pg_reload_conf()",
            "east-weak shows us who writes: app", "west-weak lets us promote it: app",
        ),
    )
    functions = "pg_reload_conf(), pg_promote(boolean, integer), pg_show_all_file_settings()"
    rights = ("pg_monitor", "ALTER SYSTEM ON PARAMETER default_transaction_read_only",
              f"EXECUTE ON FUNCTION {functions}", "SELECT ON pg_file_settings")
    postgres.ask(pair, OLD, *(f"GRANT {right} TO app" for right in rights))
    try:
        code, told = weak.probed(SWITCHOVER)
        assert code == ExitCode.OK, [node for node in told["nodes"] if node["problem"]]
    finally:
        postgres.ask(pair, OLD, *(f"REVOKE {right} FROM app" for right in rights))


FREEZE = "  - {id: freeze, kind: postgres.freeze, with: {database: east, lease: 4s}}\n"
FENCE = "  - {id: fence, kind: postgres.fence, with: {database: east, standby: west}}\n"


def test_a_controller_that_is_killed_after_the_freeze_does_not_keep_it(
    pair: Lab, runs: Runs
) -> None:
    comes_back_when_its_controller_is_killed(
        pair, runs, FREEZE, FENCE, PostgresWriter(pair), ids, alive_first=True
    )


def test_after_a_promotion_nothing_comes_back_on_the_old_side(pair: Lab, runs: Runs) -> None:
    stays_frozen_after_the_promotion(pair, runs, FREEZE + FENCE + (
        "  - {id: caught-up, kind: postgres.catch_up, with: {primary: east, standby: west}}\n"
        "  - {id: promote, kind: postgres.promote, with: {database: west, old: east}}\n"
    ), (
        "  - {id: thaw, kind: postgres.thaw, with: {database: west}}\n"
        "  - {id: rejoin, kind: postgres.rejoin, with: {database: east, primary: west}}\n"
    ), PostgresWriter(pair), ids, lambda: postgres.running(pair, OLD))


def test_a_freeze_is_proven_by_a_refused_write_and_by_standing_still(
    pair: Lab, runs: Runs
) -> None:
    proof = ("  - {id: proof, kind: writes.sentinel, with: {database: east, client: east-app, "
             "still: 300ms}}\n")
    _, state, text = runs.run(proof, head=BACK)
    assert "east-app sees no table runbook_sentinel" in state.nodes["proof"].detail, text
    postgres.ask(pair, OLD, "CREATE TABLE runbook_sentinel (at timestamptz DEFAULT now())",
                 "CREATE TABLE cheated (n serial PRIMARY KEY)")
    text = runs.run(proof, head=BACK)[2]
    assert "for another reason, which proves nothing" in text
    postgres.ask(pair, OLD, "GRANT INSERT ON runbook_sentinel TO app")
    freeze = "  - {id: freeze, kind: postgres.freeze, with: {database: east}}\n"
    a_freeze_is_proven(runs, freeze, proof, lambda: postgres.ask(
        pair, OLD, "SET default_transaction_read_only = off", "INSERT INTO cheated DEFAULT VALUES"
    ))
    assert postgres.ask(pair, OLD, "SELECT count(*) FROM runbook_sentinel") == "0"
    postgres.ask(pair, OLD, "DROP TABLE runbook_sentinel, cheated")


STEPS = ("freeze", "fence", "promote", "thaw", "rejoin", "ready")


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


def test_a_standby_that_lags_by_minutes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    postgres.ask(pair, NEW, "SELECT pg_wal_replay_pause()")
    try:
        a_replica_that_lags_by_minutes_is_not_promoted(pair, runs, (
            "  - {id: freeze, kind: postgres.freeze, with: {database: east}}\n" + FENCE +
            "  - {id: caught-up, kind: postgres.catch_up, with: {primary: east, standby: west}, "
            "poll: {every: 100ms, timeout: 2s}}\n"
            "  - {id: promote, kind: postgres.promote, with: {database: west, old: east}}\n"
        ), PostgresWriter(pair), ids, "bytes of the log")
    finally:
        postgres.ask(pair, NEW, "SELECT pg_wal_replay_resume()")


FROZEN = """\
  - {id: freeze, kind: postgres.freeze, with: {database: east}}
  - {id: drained, kind: postgres.drain, with: {database: east}}
"""
COMPARE = "  - {id: same, kind: postgres.compare, with: {primary: east, standby: west, %s}}\n"


def test_both_sides_are_compared_and_what_differs_is_told_by_table_and_key(
    pair: Lab, runs: Runs
) -> None:
    postgres.ask(
        pair, OLD, "CREATE SCHEMA audit",
        "CREATE TABLE audit.lines (country text, n int, said text, at timestamptz DEFAULT now(), "
        "PRIMARY KEY (country, n))",
        "INSERT INTO audit.lines SELECT CASE n % 3 WHEN 0 THEN 'de' WHEN 1 THEN E'o''\\\\x' "
        "ELSE '' END, n, 'needle-' || lpad(n::text, 5, '0') FROM generate_series(1, 5000) n",
        "CREATE TABLE audit.keyless (a int, b float8)",
        "INSERT INTO audit.keyless SELECT 1, 0.1 FROM generate_series(1, 10)",
        "CREATE TABLE empty (id uuid PRIMARY KEY)", "CREATE SEQUENCE counter",
        "SELECT nextval('counter')",
        "VACUUM (FREEZE, ANALYZE) audit.lines",
    )
    with PostgresWriter(pair) as writer:
        writer.more(20)
        # The second column of the key decides where a piece ends, too.
        code, state, text = runs.run(FROZEN + COMPARE % "chunk: 700")
        assert code == ExitCode.OK, text
        assert state.nodes["same"].outputs["tables"] == 4
        assert state.nodes["same"].outputs["rows"] >= 5030
        assert "east and west are the same" in state.nodes["same"].detail
        assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    where = postgres.ask(pair, OLD, "SELECT pg_relation_filepath('audit.lines')")
    postgres.rot(pair, NEW, where, "needle-04242", "noodle-04242")
    code, state, text = runs.run(FROZEN + COMPARE % "chunk: 700", head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    told = state.nodes["same"].detail
    assert "audit.lines, keys after de, " in told and "1 different (de, 4242)" in told
    code, state, text = runs.run(FROZEN + COMPARE % "exclude: audit.*", head=BACK)
    assert code == ExitCode.OK, text
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    postgres.rot(pair, NEW, where, "noodle-04242", "needle-04242")


def test_a_comparison_goes_on_where_it_was_when_its_controller_was_killed(
    pair: Lab, runs: Runs
) -> None:
    postgres.ask(pair, OLD, "CREATE TABLE many (id int PRIMARY KEY)",
                 "INSERT INTO many SELECT generate_series(1, 3000)", "VACUUM ANALYZE many")
    slow = FROZEN + COMPARE % "tables: many, chunk: 100, max_rate: 1000"
    controller = runs.start(slow)

    def rows() -> int:
        found = runs.nodes().get("same")
        return int(found.progress.get("found", {}).get("rows", 0)) if found else 0

    wait_for("it is under way", lambda: rows() >= 500)
    controller.kill()
    controller.wait()
    before = rows()
    assert before < 3000
    code, state, text = runs.command("resume", "--plain")
    assert code == ExitCode.OK, text
    assert state.nodes["same"].outputs["rows"] == 3000
    told = [event.data["progress"] for event in runs.events("progress")]
    # While the other side still lacks what the server itself has logged, nothing is looked at.
    looks = [progress["found"]["rows"] for progress in told if "waiting" not in progress]
    assert looks == sorted(set(looks)), "no piece was looked at twice"
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK


def test_sides_that_do_not_stand_still_are_not_compared(pair: Lab, runs: Runs) -> None:
    code, state, text = runs.run(COMPARE % "", head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    assert "east takes writes: it has to be frozen first" in state.nodes["same"].detail


def test_a_way_back_that_would_lose_rows_shows_them_and_waits_until_it_is_accepted(
    pair: Lab, runs: Runs
) -> None:
    with PostgresWriter(pair) as writer:
        writer.more(10)
        code, state, text = runs.run(SWITCHOVER)
        assert code == ExitCode.OK, text
        # Somebody makes the old side a primary again and writes there, which it takes: two
        # histories.
        writer.more(10)
        postgres.ask(pair, OLD, "SELECT pg_promote()", "INSERT INTO orders VALUES "
                     "(-1), (-2), (-3)", "UPDATE orders SET at = now() WHERE id IN "
                     "(SELECT max(id) FROM orders)")
        writer.more(10)
        accept = ["--accept-drift", "database/rejoin"]
        code, state, text = runs.rollback(*accept)
        assert (code, state.phase) == (ExitCode.HELD, RunPhase.HELD), text
        assert "east has been written to since west was promoted" in text
        assert "4 rows: public.orders: 3 that west lacks (-3; -2; -1), 1 that west has" in text
        assert "--accept-loss database/promote" in text
        writer.more(10)  # Nothing was undone: the new side takes writes.
        code, state, text = runs.rollback(*accept, "--accept-loss", "database/promote")
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        [intent] = [e for e in runs.events("intent")
                    if e.op == "undo" and e.node == "database/promote"]
        assert intent.data["loss"]["rows"] == 4, "it is on record"
        writer.more(10)
    assert writer.acknowledged <= ids(pair, OLD), "what customers wrote on the new side is kept"
    assert not {-1, -2, -3} & ids(pair, OLD), "what was discarded is what was named"
    wait_for("the other side follows", lambda: writer.acknowledged <= ids(pair, NEW), 30)


def test_a_freeze_waits_for_what_is_under_way(pair: Lab, runs: Runs) -> None:
    """And so does the check that is a step of its own."""
    freeze = FREEZE.replace("lease: 4s", "drained: true")
    drain = "  - {id: drained, kind: postgres.drain, with: {database: east}}\n"
    impatient = ", poll: {every: 50ms, timeout: 500ms}}\n"
    with inside(pair.network.namespace("client")), psycopg.connect(
        host=MACHINES[OLD], user="app", password=PASSWORD, dbname="postgres",
    ) as writer:
        writer.execute("INSERT INTO orders (id) VALUES (-1)")
        for steps in (freeze, drain):
            code, _, text = runs.run(steps.replace("}}\n", "}" + impatient))
            assert code == ExitCode.HELD and "still writing on east: app (no name" in text, text
            assert runs.rollback()[0] == ExitCode.ROLLED_BACK
        writer.rollback()
    code, state, text = runs.run(freeze + drain)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "refuses new writes, and none is under way" in text
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK


def test_a_fence_waits_for_the_standby(pair: Lab, runs: Runs) -> None:
    fence = FENCE.replace("standby: west}", "standby: west, caught_up: true}")
    stop_replay = f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -q -c"
    pair[NEW].run(f"{stop_replay} 'SELECT pg_wal_replay_pause()'")
    try:
        code, _, text = runs.run(fence.replace("}}\n", "}, poll: {every: 50ms, timeout: 1s}}\n"))
        assert code == ExitCode.HELD and "west has replayed up to" in text, text
    finally:
        pair[NEW].run(f"{stop_replay} 'SELECT pg_wal_replay_resume()'")
    code, state, text = runs.command("resume", "--plain")
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "already done: east is stopped" in text
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
