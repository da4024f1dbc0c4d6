"""MariaDB's kinds on three real servers: east, west that follows it, and south, another primary
whose transactions are called as those of east are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pymysql
import pytest

from runbook.errors import Refused
from runbook.kinds import registry
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import DatabaseReads
from runbook.transports.database import DatabaseTransport
from tests.kinds.fakes import FakeReads
from tests.transports.database.servers import (
    PASSWORD,
    Server,
    another_mysql,
    find,
    make,
    transport_of,
)
from tests.transports.database.test_transport import key
from tests.transports.ssh_lab import until

pytestmark = [
    pytest.mark.skipif(find("mariadbd") is None, reason="mariadbd is not installed"),
    pytest.mark.xdist_group("mysql-pair"),
]
_IDS = {"east": 1, "west": 2, "south": 1}


@dataclass
class World(FakeReads):
    """Kinds look at it and act on it; ``ask`` is somebody else's hand."""

    servers: dict[str, Server] = field(default_factory=dict)
    transport: DatabaseTransport | None = None

    def database(self, name: str) -> DatabaseReads:
        assert self.transport is not None
        return self.transport.reads(name)

    def ask(self, name: str, *statements: str) -> tuple[tuple[Any, ...], ...]:
        with pymysql.connect(
            host="127.0.0.1", port=self.servers[name].port, user="mover", password=PASSWORD,
            autocommit=True, charset="utf8mb4",
        ) as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def begin_anew(self) -> None:
        """All three are empty, and west follows east."""
        for name in self.servers:
            self.ask(name, "STOP ALL SLAVES", "RESET SLAVE ALL", "SET GLOBAL read_only = 0",
                     "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop",
                     "DROP USER IF EXISTS low",
                     "RESET MASTER", "SET GLOBAL gtid_slave_pos = ''")
        self.follow("west", "east")

    def follow(self, name: str, leader: str) -> None:
        password = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        self.ask(name, "STOP SLAVE", "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = "
                 f"{self.servers[leader].port}, MASTER_USER = 'mover', MASTER_PASSWORD = "
                 f"'{password}', MASTER_USE_GTID = slave_pos", "START SLAVE")

    def caught_up(self, name: str, leader: str) -> None:
        [(position,)] = self.ask(leader, "SELECT @@GLOBAL.gtid_binlog_pos")
        assert self.ask(name, f"SELECT MASTER_GTID_WAIT('{position}', 20)") == ((0,),)

    def step(self, kind: str, **keys: object) -> Kind:
        return registry()[kind].model_validate(keys)

    def look(self, kind: Kind) -> Observation:
        return kind.observe(cast(Any, self))

    def needs(self, kind: Kind, what: str) -> Need:
        [found] = [need for need in kind.needs(cast(Any, self), None) if what in need.what]
        return found

    def act(self, actions: Any) -> None:
        assert self.transport is not None
        for action in actions:
            done = self.transport.perform(action, key())
            assert done.ok, done.detail

    def freeze(self) -> None:
        self.act(self.plan(self.step("mysql.freeze", database="east")).actions)

    def plan(self, kind: Kind) -> Planned:
        return kind.plan(self.look(kind))

    def verdict(self, kind: Kind) -> Verdict:
        """Of a check, by one look."""
        seen = self.look(kind)
        return kind.verify(seen, seen)


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Server]]:
    # Not below pytest's own folder: no other user may enter that, and servers run as one.
    with tempfile.TemporaryDirectory(prefix="runbook-db-") as place:
        first = make("mysql", Path(place) / "east")
        servers = {"east": first} | {
            name: another_mysql(first, Path(place) / name) for name in ("west", "south")
        }
        for name, server in servers.items():
            server.command = [*server.command, f"--server-id={_IDS[name]}", "--log-slave-updates",
                              "--slave-net-timeout=4"]
            server.start()
        try:
            yield servers
        finally:
            for server in servers.values():
                server.stop()


def _declared(servers: dict[str, Server]) -> Iterator[Any]:
    for name, server in servers.items():
        yield server.declared(
            name=name, replication=f"host=127.0.0.1 port={server.port} user=mover password=db"
        )
        yield server.declared(name=f"{name}-alone")
        yield server.declared(name=f"{name}-low", user="low")


@pytest.fixture
def world(started: dict[str, Server]) -> Iterator[World]:
    with transport_of(*_declared(started)) as transport:
        made = World(servers=started, transport=transport)
        made.begin_anew()
        yield made


PAIR = {"primary": "east", "replica": "west"}
PROMOTE = {"database": "west", "old": "east"}


def test_a_replica_of_another_server_is_not_promoted(world: World) -> None:
    """Its transactions are called as ours are: every server has the same defaults."""
    world.follow("west", "south")
    for name, table in (("east", "orders"), ("south", "bills")):
        world.ask(name, f"CREATE TABLE shop.{table} (id INT PRIMARY KEY)")
    world.caught_up("west", "south")
    world.freeze()
    assert world.ask("west", "SELECT @@gtid_slave_pos") == world.ask(
        "east", "SELECT @@gtid_binlog_pos")
    for end, words in (("", "and `replication` of east is 127.0.0.1:"),
                       ("-alone", "nobody can tell whether that is east-alone")):
        catch_up = world.step("mysql.catch_up", primary=f"east{end}", replica="west")
        assert not (need := world.needs(catch_up, "closely")).ok and words in need.seen
        verdict = world.verdict(catch_up)
        assert (verdict.ok, verdict.retry) == (False, False) and words in verdict.seen
        promote = world.step("mysql.promote", database="west", old=f"east{end}")
        assert not world.needs(promote, "closely").ok
        with pytest.raises(Refused, match=f"west does not follow east.*{words}"):
            world.plan(promote)
    world.ask("west", "STOP SLAVE", "RESET SLAVE ALL")
    assert "it is a primary, too" in world.verdict(world.step("mysql.catch_up", **PAIR)).seen


def test_a_primary_that_has_forgotten_what_it_wrote_is_told(world: World) -> None:
    world.ask("east", "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
              "INSERT INTO shop.orders VALUES (0)")
    world.caught_up("west", "east")
    world.ask("east", "RESET MASTER", "INSERT INTO shop.orders VALUES (1)")
    world.freeze()
    verdict = world.verdict(world.step("mysql.catch_up", **PAIR))
    assert not verdict.ok and "begun anew (RESET MASTER)" in verdict.seen
    with pytest.raises(Refused, match="RESET MASTER"):
        world.plan(world.step("mysql.promote", **PROMOTE))


def test_a_replication_that_has_stopped_is_told_though_nothing_is_missing(world: World) -> None:
    world.caught_up("west", "east")
    world.freeze()
    world.ask("west", "STOP SLAVE")
    verdict = world.verdict(world.step("mysql.catch_up", **PAIR))
    assert (verdict.ok, verdict.retry) == (False, False) and "it was stopped" in verdict.seen
    with pytest.raises(Refused, match="it was stopped"):
        world.plan(world.step("mysql.promote", **PROMOTE))


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_who_takes_writes_there_and_back(world: World, closed: bool) -> None:
    """The new side takes none from its promotion to the thaw, whatever it took as a replica; the
    old one none once it is frozen. And on the way back nothing is lost, whoever opened what."""
    world.ask("east", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    world.caught_up("west", "east")
    world.ask("west", f"SET GLOBAL read_only = {int(closed)}")
    freeze = world.step("mysql.freeze", database="east")
    open_ = world.look(freeze)
    world.act(freeze.plan(open_).actions)
    promote = world.step("mysql.promote", **PROMOTE)
    before = world.look(promote)
    assert before.state == {"role": "replica", "read_only": closed}
    world.act(promote.plan(before).actions)
    after = world.look(promote)
    assert promote.verify(before, after).ok
    assert world.ask("west", "SELECT @@GLOBAL.read_only") == ((1,),)
    world.act(world.plan(world.step("mysql.thaw", database="west")).actions)
    assert world.look(promote).state == after.state
    rejoin = world.step("mysql.rejoin", database="east", primary="west")
    world.act(world.plan(rejoin).actions)
    until(lambda: world.verdict(rejoin).ok, 10)
    assert world.ask("east", "SELECT @@GLOBAL.read_only") == ((1,),)

    world.ask("west", "INSERT INTO shop.orders VALUES (1)")
    back = promote.undo_from(before, world.look(promote))
    assert not isinstance(back, Irreversible)
    # Between the look and the freeze.
    world.ask("west", "INSERT INTO shop.orders VALUES (2)")
    world.act(back[:1])
    assert world.ask("west", "SELECT @@GLOBAL.read_only") == ((1,),)
    world.act(back[1:])
    world.act(freeze.undo(open_))
    assert world.ask("east", "SELECT id FROM shop.orders") == ((1,), (2,))
    assert world.look(freeze).state == open_.state == {"read_only": False}
    now = world.look(promote)
    assert now.state == before.state and now.evidence["old"]["role"] == "primary"
    world.caught_up("west", "east")
    assert world.verdict(world.step("mysql.catch_up", **PAIR)).ok


def test_a_promotion_that_was_cut_short_leaves_a_replica_as_it_was(world: World) -> None:
    world.caught_up("west", "east")
    promote = world.step("mysql.promote", **PROMOTE)
    before = world.look(promote)
    world.ask("west", "SET GLOBAL read_only = 1", "STOP SLAVE")
    now = world.look(promote)
    assert now.state != before.state
    world.act(promote.undo_from(before, now))
    assert world.look(promote).state == before.state
    assert world.ask("west", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE "
                     "COMMAND = 'Slave_SQL'") == ((1,),)


def test_a_server_that_follows_a_third_one_has_not_rejoined(world: World) -> None:
    world.follow("west", "south")
    world.caught_up("west", "south")
    world.ask("west", "SET GLOBAL read_only = 1")
    rejoin = world.step("mysql.rejoin", database="west", primary="east")
    seen = world.look(rejoin)
    verdict = rejoin.verify(seen, seen)
    assert not verdict.ok and "west does not follow east: it follows 127.0.0.1:" in verdict.seen
    with pytest.raises(Refused, match="west does not follow east"):
        rejoin.plan(seen)
    world.follow("west", "east")
    until(lambda: world.look(rejoin).evidence["own"]["running"], 10)
    assert "already done" in world.plan(rejoin).reason
    seen = world.look(rejoin)
    assert rejoin.verify(seen, seen).ok
    world.ask("west", "SET GLOBAL read_only = 0")
    seen = world.look(rejoin)
    assert "takes writes itself" in rejoin.verify(seen, seen).seen
    with pytest.raises(Refused, match="west takes writes"):
        rejoin.plan(seen)


# Of each table: its columns, its first rows, and how west differs from it.
TABLES = {
    "reals": ("id INT PRIMARY KEY, v FLOAT", "(1, 1234567), (2, NULL)", "v = 1234568"),
    "by_real": ("v FLOAT PRIMARY KEY, n INT", "(1234567, 1), (1234568, 1), (0.1, 1)", "n = 2"),
    "bits": ("id INT PRIMARY KEY, v BIT(8)", "(1, b'10000000')", "v = b'10000001'"),
    "by_bits": ("v BIT(64) PRIMARY KEY, n INT", "(~0, 1), (1, 1), (1 << 63, 1)", "n = 2"),
    "places": ("id INT PRIMARY KEY, v POINT", "(1, POINT(1.1, 2.2))", "v = POINT(1.1, 2.3)"),
    "lists": ("k ENUM('z', 'a', 'm'), id INT, n INT, PRIMARY KEY (k, id)",
              "('z', 1, 1), ('z', 2, 1), ('a', 1, 1), ('a', 2, 1), ('m', 1, 1)", "n = 2"),
    "Orders": ("id INT PRIMARY KEY, a INT", "(1, 1)", "a = 2"),
    "orders": ("b INT, id INT PRIMARY KEY", "(1, 2)", "b = 2"),
}
PAST = ("id INT PRIMARY KEY, v INT, since {0} GENERATED ALWAYS AS ROW START, until {0} GENERATED "
        "ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (since, until)")


def test_every_type_and_kind_of_table_is_compared(world: World) -> None:
    for name, (columns, rows, _) in TABLES.items():
        world.ask("east", f"CREATE TABLE shop.{name} ({columns})",
                  f"INSERT INTO shop.{name} VALUES {rows}")
    past = {"past": "id INT PRIMARY KEY, v INT", "loose": "id INT, v INT",
            "told": PAST.format("TIMESTAMP(6)"), "numbered": PAST.format("BIGINT UNSIGNED")}
    for name, columns in past.items():
        world.ask("east", f"CREATE TABLE shop.{name} ({columns}) WITH SYSTEM VERSIONING",
                  f"INSERT INTO shop.{name} (id, v) VALUES (1, 1), (2, 1)",
                  f"UPDATE shop.{name} SET v = 2", f"UPDATE shop.{name} SET v = 3 WHERE id = 1")
    world.ask("east", "CREATE SEQUENCE shop.numbers", "DO NEXTVAL(shop.numbers)",
              "CREATE VIEW shop.seen AS SELECT 1 AS one")
    world.caught_up("west", "east")
    world.freeze()
    compare = world.step("mysql.compare", **PAIR, chunk=1, exclude=["numbered"])
    verdict = world.verdict(compare)
    # Of these rows 5 are of the past of each of three tables, and one is the sequence.
    rows = sum(rows.count("(") - rows.count("POINT(") for _, rows, _ in TABLES.values())
    assert verdict.ok and verdict.outputs["tables"] == len(TABLES) + 4, verdict.seen
    assert verdict.outputs["rows"] == rows + 3 * 5 + 1
    verdict = world.verdict(world.step("mysql.compare", **PAIR))
    assert not verdict.ok and verdict.seen.endswith(
        "shop.numbered: cannot be compared: what its rows were before; `exclude` leaves it out")

    quietly = "SET sql_log_bin = 0"
    for name, (_, _, change) in TABLES.items():
        world.ask("west", quietly, f"UPDATE shop.{name} SET {change} LIMIT 1")
    world.ask("west", quietly, "DO SETVAL(shop.numbers, 5000)")
    for name in past:
        world.ask("west", quietly, f"DELETE HISTORY FROM shop.{name}")
    found = world.look(compare).evidence["found"]
    assert {one["table"] for one in found["differences"]} == {
        f"shop.{name}" for name in (*TABLES, "past", "loose", "told", "numbers")}


def test_a_login_that_does_not_see_every_table_compares_nothing(world: World) -> None:
    password = PASSWORD.replace("\\", "\\\\").replace("'", "''")
    world.ask("east", f"CREATE USER low IDENTIFIED BY '{password}'",
              "GRANT BINLOG MONITOR, SLAVE MONITOR ON *.* TO low",
              "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    world.caught_up("west", "east")
    world.freeze()
    pair = {"primary": "east-low", "replica": "west-low"}
    everything = world.step("mysql.compare", **pair)
    shop = world.step("mysql.compare", **pair, tables=["shop.*"])
    for step in (everything, shop):
        verdict = world.verdict(step)
        assert (verdict.ok, verdict.retry) == (False, False), verdict.seen
        assert "east-low cannot be compared: low@% lacks SELECT on" in verdict.seen
        assert world.needs(step, "west-low lets us read every table").ok is False
    world.ask("east", "SET GLOBAL read_only = 0", "GRANT SELECT, INSERT ON shop.* TO low")
    world.caught_up("west", "east")
    world.freeze()
    assert world.verdict(shop).ok and world.needs(shop, "west-low lets us read").ok
    assert not world.verdict(everything).ok
    # By a role, too.
    world.ask("east", "SET GLOBAL read_only = 0", "CREATE OR REPLACE ROLE reader",
              "GRANT SELECT ON *.* TO reader", "GRANT reader TO low",
              "SET DEFAULT ROLE reader FOR low")
    world.caught_up("west", "east")
    world.freeze()
    with transport_of(*_declared(world.servers)) as anew:
        world.transport = anew
        assert world.verdict(everything).ok


def test_events_that_get_past_a_freeze_or_stay_off_are_named(world: World) -> None:
    freeze = world.step("mysql.freeze", database="east")
    promote = world.step("mysql.promote", **PROMOTE)
    past, off = "the events of east are bound", "no event of east is off on west"
    assert world.needs(freeze, past).ok and world.needs(promote, off).ok
    password = PASSWORD.replace("\\", "\\\\").replace("'", "''")
    world.ask("east", f"CREATE USER low IDENTIFIED BY '{password}'",
              "GRANT BINLOG MONITOR, SLAVE MONITOR ON *.* TO low",
              "GRANT EVENT, INSERT ON shop.* TO low", "SET GLOBAL event_scheduler = ON",
              "CREATE DEFINER = low EVENT shop.hourly ON SCHEDULE EVERY 1 HOUR DO SELECT 1")
    try:
        need = world.needs(freeze, past)
        assert need.ok and need.seen == "none has READ_ONLY ADMIN: shop.hourly"
        world.ask("east", "CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY DO SELECT 1")
        need = world.needs(freeze, past)
        assert (need.ok, need.grave) == (False, False)
        assert need.seen == "these write all the same: shop.nightly (as mover@%)"
        weak = world.needs(world.step("mysql.freeze", database="east-low"), "the events of")
        assert weak.ok is None and "lacks SELECT" in weak.seen
    finally:
        world.ask("east", "SET GLOBAL event_scheduler = OFF")
    assert world.needs(freeze, past).seen == "the event scheduler is off"
    world.caught_up("west", "east")
    need = world.needs(promote, off)
    assert (need.ok, need.grave) == (False, False)
    assert "shop.hourly, shop.nightly stay off" in need.seen and "ALTER EVENT" in need.hint
    world.freeze()
    before = world.look(promote)
    world.act(promote.plan(before).actions)
    verdict = promote.verify(before, world.look(promote))
    assert verdict.ok and "its events shop.hourly, shop.nightly stay off" in verdict.seen
