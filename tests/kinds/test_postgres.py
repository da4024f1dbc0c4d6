"""What the PostgreSQL kinds see, refuse and do, on servers of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook.errors import Refused
from runbook.kinds import _postgres_back
from runbook.kinds._postgres_back import drained, hand_over
from runbook.kinds._postgres_history import Follower, stranger
from runbook.kinds.postgres_checks import PostgresCatchUp
from runbook.kinds.postgres_common import FREEZE, Standing, start
from runbook.kinds.postgres_fence import PostgresFence
from runbook.kinds.postgres_promote import PostgresPromote
from runbook.model.actions import ExecuteSql
from tests.kinds.postgres_world import World
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
