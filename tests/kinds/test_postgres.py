"""What the PostgreSQL kinds see, refuse and do, on servers of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runbook.errors import Refused
from runbook.kinds._postgres_history import Follower, stranger
from runbook.kinds.postgres_checks import PostgresCatchUp
from runbook.kinds.postgres_common import Standing
from runbook.kinds.postgres_fence import PostgresFence
from runbook.kinds.postgres_promote import PostgresPromote
from tests.kinds.postgres_world import World
from tests.kinds.postgres_world import world as make_world
from tests.transports.database.servers import find
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


def test_nothing_but_the_standby_of_a_stopped_primary_is_promoted(world: World) -> None:
    fence = PostgresFence(database="east", standby="west", caught_up=True)
    before = fence.observe(world)
    world.replayed()
    assert world.perform(*fence.plan(before).actions).ok
    try:
        until(lambda: fence.verify(before, fence.observe(world)).ok)
        other = PostgresFence(database="east", standby="stranger", caught_up=True)
        told = other.verify(before, other.observe(world))
        assert not told.ok and not told.retry and ANOTHER in told.seen
        wrong = PostgresPromote(database="stranger", old="east")
        with pytest.raises(Refused, match=f"{ANOTHER}.*Nothing was promoted"):
            wrong.plan(wrong.observe(world))
        right = PostgresPromote(database="west", old="east")
        assert right.plan(right.observe(world)).actions
    finally:
        assert world.perform(*fence.undo(before)).ok  # type: ignore[arg-type]


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
