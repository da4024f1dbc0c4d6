"""MariaDB moves from one site to the other, and back, while somebody writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import mariadb, switchover
from tests.lab.lab import Lab
from tests.lab.mariadb import MariadbWriter, ids
from tests.lab.needs import marks, without
from tests.lab.runs import Runs
from tests.lab.switchover import (
    BACK,
    NEW,
    OLD,
    a_freeze_is_proven,
    a_probe_shows_what_is_missing,
    a_replica_that_lags_by_minutes_is_not_promoted,
    comes_back_when_its_controller_is_killed,
    fails_and_is_as_before,
    is_not_promoted,
    moves_and_comes_back,
    stays_frozen_after_the_promotion,
)

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


def test_a_probe_shows_privileges_and_replication(pair: Lab, runs: Runs) -> None:
    a_probe_shows_what_is_missing(
        runs, "mysql/switchover", lambda line: line.replace("user: mover,", "user: app,"),
        fits=("west follows east closely", "west and east are of one series"), lacking=(
            "east-weak lets us switch writes off and on: app@% lacks RELOAD, READ_ONLY ADMIN",
            "west-weak lets us promote it: app@% lacks RELOAD, REPLICATION SLAVE ADMIN",
        ),
    )
    mariadb.ask(pair, NEW, "STOP SLAVE")
    try:
        code, told = runs.probed(SWITCHOVER.replace("id: database", "id: strong"))
    finally:
        mariadb.ask(pair, NEW, "START SLAVE")
    assert code == ExitCode.REHEARSAL_FAILED
    # What a person sees first: it did follow when it was looked at before.
    assert {"node": "strong/promote", "step": "strong/promote", "host": "",
            "what": "west follows east closely", "then": "met",
            "now": "unmet: replication does not run: it was stopped"} in told["drift"]["changed"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["freeze", "caught-up", "promote", "thaw", "rejoin"])
def test_each_step_fails_and_all_is_as_before(pair: Lab, runs: Runs, step: str) -> None:
    fails_and_is_as_before(pair, runs, SWITCHOVER, f"database/{step}", MariadbWriter(pair), ids)


def test_a_replica_that_misses_writes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    is_not_promoted(pair, runs, (
        "  - {id: freeze, kind: mysql.freeze, with: {database: east}}\n"
        "  - {id: promote, kind: mysql.promote, with: {database: west, old: east}}\n"
    ), MariadbWriter(pair), ids)


def test_a_replica_that_lags_by_minutes_is_not_promoted(pair: Lab, runs: Runs) -> None:
    lag = "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = {}; START SLAVE"
    mariadb.ask(pair, NEW, lag.format(300))
    try:
        a_replica_that_lags_by_minutes_is_not_promoted(pair, runs, (
            "  - {id: freeze, kind: mysql.freeze, with: {database: east}}\n"
            "  - {id: caught-up, kind: mysql.catch_up, with: {primary: east, replica: west}, "
            "poll: {every: 100ms, timeout: 2s}}\n"
            "  - {id: promote, kind: mysql.promote, with: {database: west, old: east}}\n"
        ), MariadbWriter(pair), ids, "west lacks transactions")
    finally:
        mariadb.ask(pair, NEW, lag.format(0))


FROZEN = "  - {id: freeze, kind: mysql.freeze, with: {database: east}}\n"
COMPARE = "  - {id: same, kind: mysql.compare, with: {primary: east, replica: west, %s}}\n"


def test_both_sides_are_compared_and_what_differs_is_told_by_table_and_key(
    pair: Lab, runs: Runs
) -> None:
    mariadb.ask(
        pair, OLD, "CREATE TABLE shop.parts (maker VARCHAR(20), code BINARY(16), price "
        "DECIMAL(20,2), seen TIMESTAMP NULL, note TEXT, PRIMARY KEY (maker, code)); "
        "INSERT INTO shop.parts SELECT ELT(seq % 3 + 1, 'o''x', 'é', ''), "
        "UNHEX(MD5(seq)), seq / 7, NOW(), IF(seq % 2, NULL, REPEAT('x', seq)) "
        "FROM shop.seq_1_to_900; CREATE TABLE shop.keyless (a INT, b DOUBLE); "
        "INSERT INTO shop.keyless SELECT 1, 0.1 FROM shop.seq_1_to_10",
    )
    with MariadbWriter(pair) as writer:
        writer.more(20)
        code, state, text = runs.run(FROZEN + COMPARE % "tables: shop.*, chunk: 70")
        assert code == ExitCode.OK, text
        assert state.nodes["same"].outputs["tables"] == 3
        assert state.nodes["same"].outputs["rows"] >= 930
        assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    quietly = "SET sql_log_bin = 0; "
    mariadb.ask(pair, NEW, quietly + "UPDATE shop.parts SET price = price + 0.01 WHERE code = "
                "UNHEX(MD5(500)); DELETE FROM shop.parts WHERE code = UNHEX(MD5(501))")
    code, state, text = runs.run(FROZEN + COMPARE % "tables: shop.*, chunk: 70", head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    told = state.nodes["same"].detail
    assert "shop.parts, keys after" in told and "1 different" in told
    assert "1 missing on west" in told and hashlib.md5(b"501").hexdigest().upper() in told
    code, state, text = runs.run(FROZEN + COMPARE % "exclude: parts", head=BACK)
    assert code == ExitCode.OK, text
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    mariadb.ask(pair, OLD, "DROP TABLE shop.parts, shop.keyless")


LEASED = "  - {id: freeze, kind: mysql.freeze, with: {database: east, lease: 4s}}\n"
PROMOTE = "  - {id: promote, kind: mysql.promote, with: {database: west, old: east}}\n"


def test_a_controller_that_is_killed_after_the_freeze_does_not_keep_it(
    pair: Lab, runs: Runs
) -> None:
    comes_back_when_its_controller_is_killed(
        pair, runs, LEASED, PROMOTE, MariadbWriter(pair), ids
    )


def test_after_a_promotion_nothing_comes_back_on_the_old_side(pair: Lab, runs: Runs) -> None:
    stays_frozen_after_the_promotion(pair, runs, LEASED + (
        "  - {id: caught-up, kind: mysql.catch_up, with: {primary: east, replica: west}}\n"
    ) + PROMOTE, (
        "  - {id: thaw, kind: mysql.thaw, with: {database: west}}\n"
        "  - {id: rejoin, kind: mysql.rejoin, with: {database: east, primary: west}}\n"
    ), MariadbWriter(pair), ids,
        lambda: mariadb.ask(pair, OLD, "SELECT @@GLOBAL.read_only") != "1\n")


def test_a_freeze_is_proven_by_a_refused_write_and_by_standing_still(
    pair: Lab, runs: Runs
) -> None:
    mariadb.ask(pair, OLD, "CREATE TABLE shop.sentinel (at TIMESTAMP(6) DEFAULT NOW(6)); "
                "CREATE TABLE shop.cheated (n INT AUTO_INCREMENT PRIMARY KEY)")
    proof = ("  - {id: proof, kind: writes.sentinel, with: {database: east, client: %s, "
             "table: shop.sentinel, still: 300ms}}\n")
    a_freeze_is_proven(runs, FROZEN, proof % "east-app", lambda: mariadb.ask(
        pair, OLD, "INSERT INTO shop.cheated VALUES ()"
    ))
    # A login that the freeze does not bind proves nothing, and is told.
    text = runs.run(FROZEN + proof % "east", head=BACK)[2]
    assert "takes writes: it accepted" in text
    assert mariadb.ask(pair, OLD, "SELECT COUNT(*) FROM shop.sentinel") == "0\n"


def test_plugins_of_servers(pair: Lab, runs: Runs) -> None:
    """What the new side lacks is told; all that the old one has, it offers."""
    code, state, text = runs.run(
        "  - {id: fit, kind: capacity.check, with: {extensions: {west: innodb}, "
        "extensions_like: {west: east}}}\n"
        "  - {id: unfit, kind: capacity.check, with: {extensions: {west: no_such}}}\n"
    )
    assert code == ExitCode.HELD, text
    assert "it does not offer no_such" in " ".join(text.split())
    assert state.nodes["fit"].outputs["failed"] == 0
    assert "InnoDB" in state.nodes["fit"].outputs["items"][1]["seen"]


def test_a_way_back_that_would_lose_rows_shows_them_and_waits_until_it_is_accepted(
    pair: Lab, runs: Runs
) -> None:
    """Comes last: the two cannot follow each other afterwards."""
    with MariadbWriter(pair) as writer:
        writer.more(10)
        code, state, text = runs.run(SWITCHOVER)
        assert code == ExitCode.OK, text
        writer.more(10)
    mariadb.ask(pair, OLD, "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0; "
                "INSERT INTO shop.orders VALUES (-1)")
    mariadb.ask(pair, NEW, "INSERT INTO shop.orders VALUES (-2), (-3)")
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.HELD, RunPhase.HELD), text
    assert "east has transactions of its own since west was promoted (0-1-" in text
    assert "2 rows: shop.orders: 2 that east lacks (-3; -2)" in text
    mariadb.ask(pair, NEW, "INSERT INTO shop.orders VALUES (-4)")
    assert -4 in ids(pair, NEW), "nothing was undone: the new side takes writes"
    code, state, text = runs.rollback("--accept-loss", "database/promote")
    assert (code, state.phase) == (ExitCode.NOT_RESTORED, RunPhase.NOT_RESTORED), text
    [gone] = runs.events("irreversible")
    assert gone.data["loss"]["rows"] == 3 and "made anew from east" in gone.data["why"]
    mariadb.ask(pair, OLD, "INSERT INTO shop.orders VALUES (-5)")
    assert {-1, -5} <= ids(pair, OLD), "the service is on the old side again"
    assert mariadb.ask(pair, NEW, "SELECT @@GLOBAL.read_only") == "1\n"
