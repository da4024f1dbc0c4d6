"""Positions of MariaDB, which tables are compared, and what a difference is called."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.errors import Refused
from runbook.kinds._compare import Found, chosen, in_words, named
from runbook.kinds._mysql_following import doubt
from runbook.kinds.mysql_common import lacks, own_since
from runbook.kinds.mysql_compare import MysqlCompare
from runbook.model.observation import Observation


def at(gtid: str, **has: int) -> dict[str, Any]:
    """``_0_1=5``: the fifth of domain 0, server 1."""
    return {"gtid": gtid, "has": {name[1:].replace("_", "-"): n for name, n in has.items()}}


@pytest.mark.parametrize(("primary", "replica", "missing"), [
    (at("0-1-5", _0_1=5), at("0-1-5", _0_1=5), ""),
    (at("0-1-5", _0_1=5), at("0-1-3", _0_1=3), "up to 0-1-5, from 3"),
    (at("0-1-5,7-1-2", _0_1=5, _7_1=2), at("0-1-5", _0_1=5), "up to 7-1-2"),
    # The same sequence, and a greater one, of another server are not the same transaction.
    (at("0-1-5", _0_1=5), at("0-2-5", _0_1=4, _0_2=5), "up to 0-1-5, from 4"),
    (at("0-1-5", _0_1=5), at("0-2-9", _0_1=4, _0_2=9), "up to 0-1-5, from 4"),
    (at("", ), at("0-1-5", _0_1=5), ""),
])
def test_what_a_replica_lacks_counts_by_server(
    primary: dict[str, Any], replica: dict[str, Any], missing: str
) -> None:
    assert lacks(primary, replica) == missing


def test_only_what_came_after_the_promotion_is_a_servers_own() -> None:
    old = at("0-1-12", _0_1=12, _0_9=3)
    new = at("0-2-14", _0_1=10, _0_2=14)
    assert own_since("0-1-10", old, new) == "0-1-12"
    assert own_since("0-1-12", old, new) == ""
    # Long before it, by a server whose transactions the new one was made from.
    assert own_since("0-1-10", at("0-1-10", _0_1=10, _0_9=3), new) == ""


def test_tables_are_chosen_by_whole_name_or_by_last_part() -> None:
    names = ["audit.lines", "public.lines", "public.orders"]
    assert chosen(names, (), ()) == names
    assert chosen(names, ("orders",), ()) == ["public.orders"]
    assert chosen(names, ("audit.*",), ()) == ["audit.lines"]
    assert chosen(names, (), ("lines",)) == ["public.orders"]
    with pytest.raises(Refused, match="no table fits 'order'"):
        chosen(names, ("order",), ())


def test_names_with_dots_are_names_of_their_own() -> None:
    names = [named("a.b", "c"), named("a", "b.c"), named("a", "c")]
    assert names == ['"a.b".c', 'a."b.c"', "a.c"]
    assert chosen(names, ("c",), ()) == ['"a.b".c', "a.c"]
    assert chosen(names, ('"a.b".*',), ()) == ['"a.b".c']
    assert chosen(names, ("a.b.c",), ()) == ['"a.b".c', 'a."b.c"']


def test_nothing_is_never_the_same() -> None:
    seen = {"done": True, "found": Found().json(), "tables": 0, "at": {"gtid": "0-1-5"},
            "database": "shop", "beyond": []}
    after = Observation(evidence=seen, at=1.0)
    told = MysqlCompare(primary="east", replica="west").verify(after, after)
    assert not told.ok and not told.retry
    assert "nothing was compared: east shows no table in its database shop" in told.seen


def test_a_difference_is_told_by_table_and_range() -> None:
    told = in_words({
        "table": "public.orders", "keys": "keys after 10 up to 20", "here": 10, "there": 9,
        "lacking": 2, "lacking_keys": ["11"], "extra": 0, "changed": 1, "changed_keys": ["12"],
    }, "east", "west")
    assert told == ("public.orders, keys after 10 up to 20: 2 missing on west (11, …), "
                    "1 different (12)")
    whole = {"table": "t", "keys": "all keys", "here": 3, "there": 4}
    assert in_words(whole, "east", "west") == "t, all keys: 3 rows on east and 4 on west"


def primary(number: int = 5, **more: Any) -> dict[str, Any]:
    place = {"host": "db1.east", "port": 3306, "declared": True}
    return {"server_id": number, "place": place, "read_only": True, "has": {"0-5": 9}, **more}


def replica(**more: Any) -> dict[str, Any]:
    return {"role": "replica", "sources": 1, "of": "db1.east", "port": 3306, "leader": 5,
            "stopped": False, "error": "", "has": {}, **more}


ADDRESS = {"host": "2001:db8::1", "port": 3306, "declared": True}


@pytest.mark.parametrize(("first", "second", "words", "passing"), [
    (primary(), replica(), "", False),
    (primary(), replica(role="primary"), "a primary, too", False),
    (primary(), replica(sources=2), "2 servers at once", False),
    (primary(), replica(leader=6), "whose server_id is 6, and east has 5", False),
    (primary(), replica(port=3307), "and `replication` of east is db1.east:3306", False),
    (primary(), replica(leader=0, error="refused"), "has not reached db1.east:3306 yet (refused)",
     True),
    (primary(), replica(stopped=True, error="1236"), "does not run: 1236", False),
    # Another name may be the same server; then the id decides, unless it is everybody's.
    (primary(), replica(of="10.0.0.9"), "", False),
    (primary(1), replica(of="10.0.0.9", leader=1), "nobody can tell whether that is east", False),
    (primary(1), replica(of="DB1.east", leader=1), "", False),
    (primary(1, place=ADDRESS), replica(of="2001:DB8:0::1", leader=1), "", False),
    (primary(place=ADDRESS), replica(of="2001:db8::2"), "and `replication` of east", False),
    # How we get there ourselves proves nothing when it differs.
    (primary(place={**ADDRESS, "declared": False}), replica(of="10.0.0.9"), "", False),
    (primary(has={"0-5": 9}), replica(has={"0-5": 10}), "that east does not know of itself", False),
    (primary(has={"0-5": 9}, read_only=False), replica(has={"0-5": 10}), "", False),
    (primary(has={"0-5": 9}), replica(has={"0-7": 10}), "", False),
])
def test_whether_a_server_follows_that_very_one(
    first: dict[str, Any], second: dict[str, Any], words: str, passing: bool
) -> None:
    why = doubt("east", first, second)
    if not words:
        assert why is None
    else:
        assert why is not None and words in why.words and why.passing == passing and why.hint
