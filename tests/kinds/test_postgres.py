"""What the PostgreSQL kinds see, refuse and do, on servers of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook.errors import Errored, Refused
from runbook.kinds import _postgres_back
from runbook.kinds._compare import Found, Walk, in_words
from runbook.kinds._postgres_back import drained, hand_over
from runbook.kinds._postgres_history import Follower, stranger
from runbook.kinds.postgres_checks import PostgresCatchUp
from runbook.kinds.postgres_common import FREEZE, Standing, start
from runbook.kinds.postgres_compare import DIALECT, PostgresCompare
from runbook.kinds.postgres_fence import PostgresFence
from runbook.kinds.postgres_freeze import PostgresThaw
from runbook.kinds.postgres_promote import PostgresPromote
from runbook.model.actions import ExecuteSql
from tests.kinds.postgres_world import World, frozen
from tests.kinds.postgres_world import world as make_world
from tests.transports.database.servers import PASSWORD, find
from tests.transports.ssh_lab import until

pytestmark = pytest.mark.skipif(
    find("initdb") is None or os.geteuid() != 0, reason="needs PostgreSQL, and root to start it"
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with make_world() as made:
        yield made


ANOTHER = "stranger is no standby of east, but of another cluster"


def test_a_standby_of_another_cluster_is_told_whatever_its_position(world: World) -> None:
    caught_up = world.checked(PostgresCatchUp(primary="east", standby="stranger"))
    assert not caught_up.ok and not caught_up.retry and ANOTHER in caught_up.seen
    [_, follows] = PostgresCatchUp(primary="east", standby="stranger").needs(world, None)
    assert follows.ok is False and ANOTHER in follows.seen
    fence = PostgresFence(database="east", standby="stranger", caught_up=True)
    with pytest.raises(Refused, match=f"{ANOTHER}.*Nothing was stopped"):
        fence.plan(fence.observe(world))


def test_a_standby_of_this_cluster_passes(world: World) -> None:
    world.ask("east", "SELECT pg_switch_wal()")
    assert world.checked(PostgresCatchUp(primary="east", standby="west")).ok
    [_, follows] = PostgresCatchUp(primary="east", standby="west").needs(world, None)
    assert follows.ok, follows
    fence = PostgresFence(database="east", standby="west")
    assert fence.plan(fence.observe(world)).actions


@pytest.fixture
def stopped(world: World) -> Iterator[None]:
    """East is stopped, as a fence does it, and west has everything."""
    fence = PostgresFence(database="east", standby="west", caught_up=True)
    before = fence.observe(world)
    world.replayed()
    assert world.perform(*fence.plan(before).actions).ok
    until(lambda: fence.verify(before, fence.observe(world)).ok)
    yield
    undo = fence.undo(before)
    assert isinstance(undo, tuple) and world.perform(*undo).ok


def test_nothing_but_the_standby_of_a_stopped_primary_is_promoted(
    world: World, stopped: None
) -> None:
    other = PostgresFence(database="east", standby="stranger", caught_up=True)
    seen = other.observe(world)
    told = other.verify(seen, seen)
    assert not told.ok and not told.retry and ANOTHER in told.seen
    wrong = PostgresPromote(database="stranger", old="east")
    with pytest.raises(Refused, match=f"{ANOTHER}.*Nothing was promoted"):
        wrong.plan(wrong.observe(world))
    right = PostgresPromote(database="west", old="east")
    assert right.plan(right.observe(world)).actions


@pytest.fixture
def carts(world: World) -> Iterator[None]:
    world.ask("east", "CREATE UNLOGGED TABLE carts (id int PRIMARY KEY)",
              "CREATE UNLOGGED TABLE empty_carts (id int PRIMARY KEY)",
              "INSERT INTO carts SELECT generate_series(1, 100)")
    yield
    world.ask("east", "DROP TABLE carts, empty_carts")


# The first fixture is set up first: what is stopped is started before its tables are dropped.
@pytest.mark.usefixtures("carts", "stopped")
def test_contents_of_unlogged_tables_are_lost_only_where_they_are_named(world: World) -> None:
    promote = PostgresPromote(database="west", old="east")
    before = promote.observe(world)
    with pytest.raises(Refused, match=r"would be empty on west: public\.carts\. Nothing was"):
        promote.plan(before)
    for name in ("carts", "public.carts", "*carts"):
        accepted = PostgresPromote(database="west", old="east", lose=(name,))
        assert accepted.plan(before).actions


@pytest.mark.usefixtures("carts")
def test_a_probe_tells_of_unlogged_tables(world: World) -> None:
    def told(lose: tuple[str, ...] = ()) -> tuple[bool | None, str]:
        needs = PostgresPromote(database="west", old="east", lose=lose).needs(world, None)
        [one] = [need for need in needs if "unlogged" in need.what]
        return one.ok, one.seen

    assert told() == (False, "public.carts would be empty on west")
    assert told(("carts",)) == (True, "none has contents")
    world.ask("east", "CREATE DATABASE shop")
    try:
        assert told(("carts",)) == (
            None, "none has contents; nobody looked into the databases shop"
        )
    finally:
        world.ask("east", "DROP DATABASE shop")


RUNS = Standing("primary", "7", 2, "0/5000000")
STOPPED = Standing("stopped", "7", 2, files={"state": "shut down", "at": "0/5000028"})


@pytest.mark.parametrize(("leader", "own", "words"), [
    (RUNS, Follower(True, "0/5000000", "7", 2), ""),
    (RUNS, Follower(True, "0/4000000", "7", None), ""),
    (RUNS, Follower(True, None, "7"), ""),
    (RUNS, Follower(True, "0/5000000", "8", 2), "of another cluster"),
    (RUNS, Follower(True, "0/4000000", "7", 1), "receives timeline 1, and east writes timeline 2"),
    (RUNS, Follower(True, "0/5000001", "7", 2), "beyond the end of the log of east at 0/5000000"),
    # Where the record of its stop ends, and as far again.
    (STOPPED, Follower(True, "0/50000A0", "7"), ""),
    (STOPPED, Follower(True, "0/5100000", "7"), "beyond the end of the log of east at 0/5000028"),
    (STOPPED, Follower(True, "0/50000A0", "8"), "of another cluster"),
])
def test_a_standby_has_the_history_of_its_primary(
    leader: Standing, own: Follower, words: str
) -> None:
    told = stranger("east", leader, "west", own)
    assert bool(told) == bool(words) and words in told


def _cut_off_at_the_stop(world: World, folder: Path) -> Path:
    """Programs of a server whose follower loses its link right before the server stops, and which
    writes once more then."""
    real = Path(find("initdb") or "").parent
    own = folder / "bin"
    own.mkdir()
    for name in ("psql", "pg_controldata"):
        (own / name).symlink_to(real / name)
    east = world.servers["east"]
    ask = (f"PGPASSFILE={east.folder}/pass {real}/psql -h 127.0.0.1 -p {east.port} -U postgres "
           "-d postgres -Atqc")
    hba = east.folder / "data" / "pg_hba.conf"
    (own / "pg_ctl").write_text(f"""#!/bin/sh
case $* in
*stop*)
  sed -i 's/^host *replication/#&/' {hba}
  {ask} 'SELECT pg_reload_conf()' >&2
  until [ "$({ask} "SELECT count(*) FROM pg_hba_file_rules WHERE '{{replication}}' = database \
    AND type = 'host'")" = 0 ]; do :; done
  {ask} 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication' >&2
  until [ "$({ask} 'SELECT count(*) FROM pg_stat_replication')" = 0 ]; do :; done
  {ask} "SELECT pg_logical_emit_message(false, 'late', 'a commit that was acknowledged')" >&2
esac
exec {real}/pg_ctl "$@"
""")
    (own / "pg_ctl").chmod(0o755)
    return own


def test_the_way_back_promotes_nobody_who_lacks_the_last_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here east is the side that is left again, and west the one that shall take over."""
    monkeypatch.setattr(_postgres_back, "LAST_RECORD", 1)
    east, west = world.servers["east"], world.declared("west")
    hba = east.folder / "data" / "pg_hba.conf"
    open_again = hba.read_text()
    own = _cut_off_at_the_stop(world, east.folder)
    world.replayed()
    cut = hand_over(world.declared("east", bin_directory=str(own)), west, str(east.folder))
    done = world.perform(cut)
    assert not done.ok
    assert "west was not promoted: the last record of east begins at" in done.detail
    assert "east was started again, and is the primary" in done.detail
    assert world.ask("east", "SELECT pg_is_in_recovery()") == [(False,)]
    assert world.ask("west", "SELECT pg_is_in_recovery()") == [(True,)]
    hba.write_text(open_again)
    world.ask("east", "SELECT pg_reload_conf()")
    world.replayed()
    whole = hand_over(world.declared("east"), west, str(east.folder))
    try:
        assert world.perform(whole).ok
        # Where nobody knows whether it was done it is done once more.
        assert world.perform(whole).ok
    finally:
        assert world.perform(start(world.declared("east"))).ok
    assert world.ask("east", "SELECT pg_is_in_recovery()") == [(False,)]


def test_the_way_back_waits_for_what_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = drained(world.declared("east"))
    assert world.perform(wait).ok
    promote = PostgresPromote(database="west", old="east")
    undo = promote.undo(promote.observe(world))
    assert isinstance(undo, tuple) and isinstance(undo[0], ExecuteSql)
    assert undo[0].statements == FREEZE and undo[1] == drained(world.declared("west"))
    monkeypatch.setattr(_postgres_back, "_DRAINING", 1)
    with psycopg.connect(host="127.0.0.1", port=world.servers["east"].port, user="postgres",
                         password=PASSWORD, dbname="postgres") as writer:
        writer.execute("SELECT pg_current_xact_id()")
        done = world.perform(drained(world.declared("east")))
        assert not done.ok and "still writing: postgres (no name, process" in done.detail


COMPARE = PostgresCompare(primary="east", standby="west")
TABLES = (
    'CREATE SCHEMA "a.b"', "CREATE SCHEMA a", 'CREATE TABLE "a.b".c (id int PRIMARY KEY, v int)',
    'CREATE TABLE a."b.c" (id int PRIMARY KEY, v int)',
    "CREATE TABLE parent (id int PRIMARY KEY, v int)",
    "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
    "CREATE TABLE keyless (v int)", "INSERT INTO keyless VALUES (1), (2), (2)",
    'INSERT INTO "a.b".c VALUES (1, 1)', 'INSERT INTO a."b.c" VALUES (1, 1)',
    "INSERT INTO parent VALUES (1, 1)", "INSERT INTO child VALUES (1, 1)",
    "CREATE SEQUENCE up", "SELECT nextval('up')",
    "CREATE SEQUENCE down INCREMENT -1", "SELECT nextval('down') FROM generate_series(1, 40)",
    "CREATE SEQUENCE round MAXVALUE 5 CYCLE", "SELECT nextval('round') FROM generate_series(1, 7)",
    "CREATE SEQUENCE fresh",
)


@pytest.fixture(scope="module")
def shops(world: World) -> World:
    """Two databases of one server, ``here`` and ``there``, with the same in them."""
    for name in ("here", "there"):
        world.ask("east", f"CREATE DATABASE {name}")
        world.ask("east", *TABLES, database=name)
        world.declare(name, "east", database=name)
        world.declare(f"{name}-west", "west", database=name)
    return world


def differences(world: World, *only: str) -> list[str]:
    found = Found()
    walk = Walk(DIALECT, world.database("here"), world.database("there"), found, only=only)
    try:
        for _ in walk.pieces():
            pass
    finally:
        walk.close()
    return [in_words(one, "here", "there") for one in found.differences]


@pytest.mark.parametrize(("change", "back", "only", "told"), [
    ('UPDATE "a.b".c SET v = 2', 'UPDATE "a.b".c SET v = 1', ("a.b.c",),
     '"a.b".c, all keys: 1 different (1)'),
    ('UPDATE a."b.c" SET v = 2', 'UPDATE a."b.c" SET v = 1', ('a."b.c"',),
     'a."b.c", all keys: 1 different (1)'),
    # A child has the same key: read with it, either row hides the other.
    ("UPDATE ONLY parent SET v = 77", "UPDATE ONLY parent SET v = 1", (),
     "public.parent, all keys: 1 different (1)"),
    ("UPDATE child SET v = 77", "UPDATE child SET v = 1", (),
     "public.child, all keys: 1 different (1)"),
    ("UPDATE keyless SET v = 1 WHERE v = 2", "UPDATE keyless SET v = 2 WHERE ctid <> '(0,1)'", (),
     "public.keyless, the whole table, which has no key: 3 rows on both, which are not the same"),
])
def test_each_table_is_compared_by_itself(
    shops: World, change: str, back: str, only: tuple[str, ...], told: str
) -> None:
    assert differences(shops, *only) == []
    shops.ask("east", change, database="there")
    try:
        assert differences(shops, *only) == [told]
    finally:
        shops.ask("east", back, database="there")


def test_a_difference_that_no_row_explains_is_told(shops: World) -> None:
    class Blind(type(DIALECT)):  # type: ignore[misc]
        """Sees differing digests, and the same rows."""

        def rows(self, *args: object) -> str:
            return "SELECT '1', 'the same' WHERE true"

    shops.ask("east", 'UPDATE a."b.c" SET v = 2', database="there")
    found = Found()
    walk = Walk(Blind(), shops.database("here"), shops.database("there"), found, only=('*b.c*',))
    try:
        list(walk.pieces())
    finally:
        walk.close()
        shops.ask("east", 'UPDATE a."b.c" SET v = 1', database="there")
    [told] = [in_words(one, "here", "there") for one in found.differences]
    assert told == 'a."b.c", all keys: 1 rows on both, which are not the same'


def test_sequences_of_a_standby_are_ahead_in_their_own_direction(shops: World) -> None:
    compare = PostgresCompare(primary="here", standby="here-west")
    with frozen(shops):
        same = shops.checked(compare)
    assert same.ok, same.seen
    assert "5 tables" in same.seen and same.seen.endswith("not compared: the database there")
    both = shops.database("here"), shops.database("there")
    behind = PostgresCompare(primary="here", standby="there")
    assert behind.extra(None, *both) == []
    shops.ask("east", "SELECT setval('up', 9), setval('down', -90)", database="here")
    assert [one["table"] for one in behind.extra(None, *both)] == [
        "the sequence public.down", "the sequence public.up"
    ]
    shops.ask("east", "SELECT setval('up', 99), setval('down', -900)", database="there")
    assert behind.extra(None, *both) == []


def test_a_piece_is_digested_in_no_room_and_in_any_order(shops: World) -> None:
    """A list of digests would end at a gigabyte, with 33 million rows."""
    keyless = DIALECT.tables(shops.database("here"))["public.keyless"]
    statement = DIALECT.digest(keyless, None, None)
    assert "_agg(" not in statement
    before = shops.ask("east", statement, database="here")
    shops.ask("east", "TRUNCATE keyless", "INSERT INTO keyless VALUES (2), (1), (2)",
              database="here")
    assert shops.ask("east", statement, database="here") == before
    shops.ask("east", "TRUNCATE keyless", database="here")
    assert shops.ask("east", statement, database="here") == [(0, "0:0:0")]
    shops.ask("east", "INSERT INTO keyless VALUES (1), (2), (2)", database="here")


def test_to_compare_nothing_is_no_success(world: World) -> None:
    with frozen(world):
        told = world.checked(COMPARE)
    assert not told.ok and not told.retry
    assert told.seen.startswith(
        "nothing was compared: east shows no table in the default database, as `databases:` names"
    )


def test_a_standby_of_another_cluster_is_not_compared(world: World) -> None:
    with frozen(world):
        told = world.checked(PostgresCompare(primary="east", standby="stranger"))
    assert not told.ok and told.seen == "stranger is a standby of another cluster than east"


def test_rows_that_policies_hide_are_not_passed_over(world: World) -> None:
    world.ask(
        "east", "CREATE ROLE mover LOGIN PASSWORD '" + PASSWORD.replace("'", "''") + "'",
        "GRANT pg_monitor, pg_read_all_data TO mover",
        "GRANT EXECUTE ON FUNCTION pg_show_all_file_settings TO mover",
        "GRANT SELECT ON pg_file_settings TO mover",
        "CREATE TABLE tenants (id int PRIMARY KEY)", "INSERT INTO tenants VALUES (1)",
        "ALTER TABLE tenants ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON tenants USING (false)",
    )
    for name in ("east", "west"):
        world.declare(f"{name}-mover", name, user="mover")
    try:
        with frozen(world), pytest.raises(Errored, match="row-level security policy for table"):
            world.checked(PostgresCompare(primary="east-mover", standby="west-mover"))
    finally:
        world.ask("east", "DROP TABLE tenants")


def test_a_thaw_fails_where_commits_wait_for_standbys_that_are_not_there(world: World) -> None:
    thaw = PostgresThaw(database="east")
    names = "ALTER SYSTEM SET synchronous_standby_names = '{}'"

    def told(value: str) -> str:
        world.ask("east", names.format(value), "SELECT pg_reload_conf()")
        until(lambda: world.ask("east", "SHOW synchronous_standby_names") == [(value,)])
        if "west" in value:
            until(lambda: world.ask("east", "SELECT sync_state FROM pg_stat_replication")[0][0]
                  in {"sync", "quorum"})
        seen = thaw.observe(world)
        verdict = thaw.verify(seen, seen)
        return "" if verdict.ok else verdict.seen

    try:
        assert "every commit waits for 1 of synchronous_standby_names (north), and none of them " \
               "follows east: ALTER SYSTEM SET" in told("north")
        assert told("west") == "" and told("ANY 1 (north, west)") == ""
        assert "waits for 2 of" in told("FIRST 2 (west, north)")
    finally:
        world.ask("east", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


def test_a_probe_warns_of_standbys_that_a_new_primary_would_wait_for(world: World) -> None:
    def told() -> tuple[bool | None, bool, str]:
        needs = PostgresPromote(database="west", old="east").needs(world, None)
        [one] = [need for need in needs if "wait" in need.what]
        return one.ok, one.grave, one.seen

    assert told() == (True, False, "none waits")
    world.ask("west", "ALTER SYSTEM SET synchronous_standby_names = 'west'",
              "SELECT pg_reload_conf()")
    try:
        until(lambda: told()[0] is False)
        assert "once it is the primary, every commit waits for 1 of" in told()[2]
    finally:
        world.ask("west", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


def test_what_a_freeze_left_on_a_standby_is_taken_away_and_comes_back(world: World) -> None:
    thaw = PostgresThaw(database="west", standby=True)
    world.ask("west", FREEZE[0], FREEZE[1])
    until(lambda: bool(thaw.observe(world).state["read_only"]))
    before = thaw.observe(world)
    assert "would refuse writes" in thaw.verify(before, before).seen
    assert world.perform(*thaw.plan(before).actions).ok
    until(lambda: thaw.verify(before, thaw.observe(world)).ok)
    undo = thaw.undo(before)
    assert isinstance(undo, tuple) and world.perform(*undo).ok
    until(lambda: thaw.observe(world).state == before.state)
    world.ask("west", "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    wrong = PostgresThaw(database="east", standby=True)
    seen = wrong.observe(world)
    assert wrong.verify(seen, seen).seen == "east is no standby"
