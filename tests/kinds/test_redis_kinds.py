"""The Redis kinds on real servers, where nothing but an exact answer will do."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from runbook.errors import Refused
from runbook.kinds import redis_compare
from runbook.kinds.redis_common import both
from runbook.kinds.redis_compare import RedisCompare
from runbook.kinds.redis_freeze import RedisFreeze, RedisThaw
from runbook.kinds.redis_promote import RedisCatchUp, RedisPromote
from runbook.kinds.redis_rejoin import RedisRejoin
from runbook.model.database import QueryResult
from runbook.model.need import Need
from tests.kinds.redis_world import Trio, World, trio
from tests.transports.database.servers import PASSWORD, find
from tests.transports.ssh_lab import until

FREEZE = RedisFreeze(database="east")
CATCH_UP = RedisCatchUp(primary="east", replica="west")
PROMOTE = RedisPromote(database="west", old="east")
COMPARE = RedisCompare(primary="east", replica="west")


@pytest.fixture(scope="module")
def running() -> Iterator[Trio]:
    if find("redis-server") is None:
        pytest.skip("redis-server is not installed")
    # Not below pytest's own folder: no other user may enter that, and servers run as one.
    with tempfile.TemporaryDirectory(prefix="runbook-db-") as name, trio(Path(name)) as three:
        yield three


@pytest.fixture
def three(running: Trio) -> Trio:
    running.reset()
    return running


@pytest.fixture
def world(three: Trio) -> Iterator[World]:
    with three.world() as made:
        yield made


@dataclass
class Link:
    """The way from a primary to its replica; nothing arrives there while it does not go."""

    port: int
    goes: threading.Event = field(default_factory=threading.Event)


@contextmanager
def link_to(port: int) -> Iterator[Link]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(server.getsockname()[1])
        link.goes.set()
        always = threading.Event()
        always.set()
        ends: list[socket.socket] = []

        def pump(source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
            try:
                while data := source.recv(65536):
                    gate.wait()
                    target.sendall(data)
            except OSError:
                return

        def accept() -> None:
            while True:
                try:
                    follower, _ = server.accept()
                except OSError:
                    return
                leader = socket.create_connection(("127.0.0.1", port))
                ends.extend((follower, leader))
                for one in ((follower, leader, always), (leader, follower, link.goes)):
                    threading.Thread(target=pump, args=one, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield link
        finally:
            link.goes.set()
            server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


def test_a_write_as_long_as_two_pings_is_missing(three: Trio, world: World) -> None:
    east = three.clients["east"]
    with link_to(three.servers["east"].port) as link:
        three.follow("west", "east", port=link.port)
        east.incr("counter1")
        assert world.checked(CATCH_UP).ok
        link.goes.clear()
        at = east.info("replication")["master_repl_offset"]
        assert east.execute_command("INCR", "counter1") == 2
        assert east.info("replication")["master_repl_offset"] - at == 28
        world.do(FREEZE)
        verdict = world.checked(CATCH_UP, looks=3)
        assert not verdict.ok
        assert "west lacks" in verdict.seen
        with pytest.raises(Refused, match="bytes of east: acknowledged writes would be lost"):
            world.planned(PROMOTE)
        verdict = world.checked(COMPARE, looks=2)
        assert not verdict.ok
        assert "west lacks" in verdict.seen
        link.goes.set()
        assert world.checked(CATCH_UP).ok
        assert world.checked(COMPARE).ok
        world.do(PROMOTE)
    assert three.clients["west"].get("counter1") == b"2"


class _Told:
    """A server that says one thing after the other, and the last one for ever."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked = 0

    def query(self, statement: str, *, timeout: float = 30.0) -> QueryResult:
        assert statement == "INFO replication"
        self.asked += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return QueryResult(rows=((reply,),))


def _replica(offset: int) -> str:
    return ("role:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:up\r\n"
            f"slave_repl_offset:{offset}\r\nmaster_replid:abc\r\n")


def test_what_is_under_way_is_waited_for_and_what_is_missing_stays_missing() -> None:
    primary = "role:master\r\nmaster_replid:abc\r\nmaster_repl_offset:114\r\n"
    late = _Told(_replica(100), _replica(100), _replica(114))
    first, second = both(cast(Any, _Told(primary)), cast(Any, late))
    assert (first["offset"], second["offset"], late.asked) == (114, 114, 3)
    never = _Told(_replica(100))
    first, second = both(cast(Any, _Told(primary)), cast(Any, never))
    assert first["offset"] - second["offset"] == 14
    assert never.asked < 200


def test_a_freeze_takes_hold_where_no_lag_was_demanded(three: Trio, world: World) -> None:
    east = three.clients["east"]
    three.follow("west", "east")
    east.config_set("min-replicas-max-lag", 0)
    east.config_set("min-replicas-to-write", 1000)
    # As it was before, a write gets through: neither a gate nor the step says that it is done.
    east.set("before", 1)
    with pytest.raises(Refused, match="east takes writes"):
        world.planned(PROMOTE)
    verdict = world.checked(COMPARE)
    assert not verdict.ok
    assert "east takes writes" in verdict.seen
    east.config_set("min-replicas-to-write", 2)
    before = world.do(FREEZE)
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        east.set("after", 1)
    world.perform(FREEZE.undo(before))
    assert FREEZE.observe(world).state == before.state == {"demanded": 2, "max_lag": 0}
    east.set("after", 1)


def test_the_dead_mans_switch_takes_both_settings_back(
    three: Trio, world: World, tmp_path: Path
) -> None:
    east = three.clients["east"]
    east.config_set("min-replicas-max-lag", 0)
    world.here.home = tmp_path
    leased = RedisFreeze(database="east", lease=60.0)
    before = world.do(leased)
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        east.set("x", 1)
    # The controller has been silent for long.
    os.utime(tmp_path / ".runbook-switch" / "run-east" / "alive", (0, 0))
    until(lambda: leased.observe(world).state == before.state == {"demanded": 0, "max_lag": 0}, 5)
    world.perform(leased.undo(before))


def test_a_freeze_whose_switch_could_not_log_in_is_refused(
    three: Trio, world: World, tmp_path: Path
) -> None:
    east = three.clients["east"]
    world.here.home = tmp_path
    leased = RedisFreeze(database="east", lease=60.0)
    before = leased.observe(world)
    [login] = [need for need in leased.needs(world, before) if "dead man" in need.what]
    assert (login.ok, login.seen) == (True, "yes")
    world.here.password = "another"
    [login] = [need for need in leased.needs(world, before) if "dead man" in need.what]
    assert login.ok is False
    [armed] = world.perform(leased.plan(before).actions)
    assert not armed.ok
    assert "could not thaw it: " in armed.detail
    assert "NOAUTH" in armed.detail
    assert "Nothing is frozen" in armed.detail
    assert east.set("x", 1)


def test_the_new_side_is_frozen_on_the_way_back_too(three: Trio, world: World) -> None:
    three.follow("west", "east")
    three.clients["west"].config_set("min-replicas-max-lag", 0)
    world.do(FREEZE)
    before = world.do(PROMOTE)
    freeze, *_, thaw = cast(tuple[Any, ...], PROMOTE.undo(before))
    world.perform((freeze,))
    with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
        three.clients["west"].set("x", 1)
    world.perform((thaw,))
    assert three.clients["west"].config_get("min-replicas-*") == {
        "min-replicas-to-write": "0", "min-replicas-max-lag": "0"}


def test_a_replica_of_another_primary_is_not_promoted(three: Trio, world: World) -> None:
    three.follow("west", "third")
    three.clients["east"].set("order", "paid")
    for number in range(20):
        three.clients["third"].set(number, number)
    [follows] = [need for need in CATCH_UP.needs(world, None) if "closely" in need.what]
    assert follows.ok is False
    told = f"it follows {three.place('third')}, which is not east"
    assert told in follows.seen
    world.do(FREEZE)
    verdict = world.checked(CATCH_UP)
    assert (verdict.ok, verdict.retry) == (False, False)
    assert told in verdict.seen
    verdict = world.checked(COMPARE)
    assert not verdict.ok
    assert told in verdict.seen
    with pytest.raises(Refused, match="west is no replica of east"):
        world.planned(PROMOTE)
    # And where its own primary does not answer any more.
    three.clients["west"].replicaof("127.0.0.1", 1)
    with pytest.raises(Refused, match=r"not connected to its primary 127\.0\.0\.1 1"):
        world.planned(PROMOTE)


def test_the_way_back_waits_for_the_old_side_and_for_no_other_replica(three: Trio) -> None:
    # By a name: a list of replicas would show an address.
    names = {name: f"localhost {server.port}" for name, server in three.servers.items()}
    with three.world(**names) as world:
        three.follow("west", "east")
        frozen = world.do(FREEZE)
        before = world.do(PROMOTE)
        three.follow("third", "west")
        west, east = three.clients["west"], three.clients["east"]
        for number in range(50):
            west.set(f"new{number}", "x")
        east.config_set("masterauth", "wrong")
        freeze, follow, wait, *rest = cast(tuple[Any, ...], PROMOTE.undo(before))
        world.perform((freeze, follow))
        short = wait.script.replace("%s) + 60", "%s) + 0")
        assert short != wait.script
        [late] = world.perform((wait.model_copy(update={"script": short}),))
        assert not late.ok
        assert "east does not catch up with west: link down" in late.detail
        east.config_set("masterauth", PASSWORD)
        assert all(one.ok for one in world.perform((wait, *rest)))
        assert east.dbsize() == 50
        world.perform(FREEZE.undo(frozen))
        assert east.set("again", 1)


def test_a_probe_warns_where_the_way_back_could_not_ask(three: Trio, world: World) -> None:
    three.follow("west", "east")

    def way_back() -> Need:
        [found] = [need for need in PROMOTE.needs(world, None) if "way back" in need.what]
        assert not found.grave
        return found

    assert way_back().ok
    world.here.password = "another"
    found = way_back()
    assert found.ok is False
    assert "WRONGPASS" in found.seen


def test_a_rejoined_side_can_take_over_in_an_emergency(three: Trio, world: World) -> None:
    rejoin = RedisRejoin(database="east", primary="west")
    three.clients["east"].config_set("min-replicas-max-lag", 0)
    three.follow("west", "east")
    world.do(FREEZE)
    world.do(PROMOTE)
    world.perform(world.planned(RedisThaw(database="west")).actions)
    before = world.do(rejoin)
    assert "already done" in world.planned(rejoin).reason
    with pytest.raises(redis.ReadOnlyError):
        three.clients["east"].set("x", 1)
    world.perform(rejoin.undo(before))
    assert rejoin.observe(world).state == before.state == {"demanded": 1000, "max_lag": 10}
    world.perform(world.planned(rejoin).actions)
    # West is gone: a person makes east the primary.
    three.clients["east"].replicaof("no", "one")
    assert three.clients["east"].set("x", 1)


@pytest.fixture
def replicated(three: Trio, world: World) -> Iterator[tuple[Any, Any]]:
    """East and west, which may be written to as well."""
    three.follow("west", "east")
    east, west = three.clients["east"], three.clients["west"]
    west.config_set("replica-read-only", "no")
    yield east, west


def test_a_slowed_comparison_ends_whatever_look_its_last_page_falls_on(
    replicated: tuple[Any, Any], world: World
) -> None:
    east, west = replicated
    for number in range(40):
        east.set(f"key:{number}", number)
    world.do(FREEZE)
    slow = RedisCompare(primary="east", replica="west", max_rate=1e6, chunk=10)
    verdict = world.checked(slow, looks=40)
    assert verdict.ok, verdict
    assert verdict.outputs["rows"] == 40
    west.set("more", 1)
    verdict = world.checked(slow, looks=80)
    assert (verdict.ok, verdict.retry) == (False, False)
    assert "1 only on west (more)" in verdict.seen


def _made(east: Any) -> None:
    for number in range(1, 6):
        east.xadd("stream", {"a": number}, id=f"{number}-0")
    east.xgroup_create("stream", "readers", id="0")
    east.xreadgroup("readers", "one", {"stream": ">"}, count=2)
    # What Redis does not replicate: a consumer that has nothing, and a second delivery.
    east.xreadgroup("readers", "one", {"stream": "0"})
    east.xgroup_createconsumer("stream", "readers", "idle")
    east.zadd("zset", {"a": 1, "b": 2})


@pytest.mark.parametrize("differs", [
    lambda west: west.xgroup_create("stream", "another", id="0"),
    lambda west: west.xgroup_setid("stream", "readers", "3-0"),
    lambda west: west.xclaim("stream", "readers", "two", 0, ["1-0"]),
    lambda west: west.xack("stream", "readers", "2-0"),
    lambda west: west.execute_command("XSETID", "stream", "9-0"),
], ids=["group", "position", "consumer", "acknowledged", "last-id"])
def test_what_readers_of_a_stream_have_is_compared(
    replicated: tuple[Any, Any], world: World, differs: Callable[[Any], object]
) -> None:
    east, west = replicated
    _made(east)
    world.do(FREEZE)
    verdict = world.checked(COMPARE)
    assert verdict.ok, verdict
    differs(west)
    verdict = world.checked(COMPARE)
    assert not verdict.ok
    assert "1 different (stream)" in verdict.seen
    left_out = RedisCompare(primary="east", replica="west", exclude=("stream",))
    assert world.checked(left_out).ok


def test_a_type_that_a_module_brings_is_compared_as_a_whole(
    replicated: tuple[Any, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the server's sorted sets were such a type: there is no module here.
    for name in ("_SCAN", "_LOOK"):
        script = getattr(redis_compare, name)
        unknown = script.replace("zset = 'ZCARD', ", "")
        assert unknown != script
        monkeypatch.setattr(redis_compare, name, unknown)
    east, west = replicated
    _made(east)
    world.do(FREEZE)
    verdict = world.checked(COMPARE)
    assert verdict.ok, verdict
    west.zadd("zset", {"a": 3})
    verdict = world.checked(COMPARE)
    assert not verdict.ok
    assert "1 different (zset)" in verdict.seen
