"""The example site-switchover as it is shipped: three groups in order, and no edit lost, there and
back. Rollback coverage of all of it: see test_rollback_coverage.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runbook.engine.rollback import ancestors
from tests.examples.playing import EXAMPLES, plan_of, rehearse

PLAN = plan_of("site-switchover")
PROGRAMS = EXAMPLES / "site-switchover" / "programs"


def test_three_groups_in_order() -> None:
    for earlier, later in (("services", "databases"), ("databases", "wiki")):
        after = {s.id for s in PLAN.steps if s.id.startswith(f"{later}/")}
        before = {s.id for s in PLAN.steps if s.id.startswith(f"{earlier}/")}
        assert before and after
        assert all(before <= ancestors(PLAN, step) for step in after)


def test_the_reference_is_read_strictly_after_the_freeze_and_compared_before_the_other_opens() -> (
    None
):
    chain = ["wiki/read-only", "wiki/settled", "wiki/db-read-only", "wiki/reference",
             "wiki/in-sync", "wiki/flip", "wiki/drained", "wiki/db-read-write", "wiki/read-write"]
    for before, after in pairwise(chain):
        assert before in ancestors(PLAN, after), (before, after)


def test_on_the_way_back_this_site_opens_only_when_it_has_all_of_the_other() -> None:
    assert "wiki/way-home" in ancestors(PLAN, "wiki/db-read-write"), "the other is closed"
    assert "wiki/db-read-only" in ancestors(PLAN, "wiki/way-home"), "this one is not open yet"
    assert "databases/circular" in ancestors(PLAN, "wiki/way-home"), "and still follows"


def test_the_switchover_loses_no_edit_and_pages_always_load(tmp_path: Path) -> None:
    said = rehearse("site-switchover", tmp_path)
    assert (said["ok"], said["phase"]) == (True, "done"), said["why"]
    judged = said["judgement"]
    assert judged["writes_acknowledged"] > 20
    assert judged["writes_lost"] == 0
    assert judged["read_outage"]["count"] == 0, judged["first_errors"]
    assert judged["reads_fallback"] > 0
    assert {"198.51.100.20", "203.0.113.20"} <= set(judged["served_by"])


def test_a_fault_at_the_very_end_is_taken_back_and_what_was_edited_since_comes_home(
    tmp_path: Path,
) -> None:
    said = rehearse("site-switchover", tmp_path, "--fail", "wiki/nothing-left")
    assert said["phase"] == "rolled_back", said["why"]
    assert said["changed"] == [], "the world is as it was"
    judged = said["judgement"]
    assert judged["served_by"]["203.0.113.20"] > 0
    assert judged["writes_lost"] == 0
    assert judged["read_outage"]["count"] == 0, judged["first_errors"]
    assert said["ok"] is True


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    spec = importlib.util.spec_from_file_location("store", PROGRAMS / "store.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("web", None)


def stores(module: ModuleType, folder: Path) -> tuple[Any, Any]:
    """A primary, and a replica that takes no writes."""
    made = []
    for site in ("north", "south"):
        (folder / site).mkdir()
        made.append(module.Store(site, folder / site / "writes.jsonl", folder / site))
    (folder / "south" / "read-only").touch()
    return made[0], made[1]


def test_a_heartbeat_as_old_as_the_reference_proves_nothing_and_a_later_one_does(
    store: ModuleType, tmp_path: Path
) -> None:
    north, south = stores(store, tmp_path)
    north.pulse()
    early = north.stream(0)
    identity, number = north.write("the last one")
    (tmp_path / "north" / "read-only").touch()
    reference = north.status()["beat"]
    south.take(early)
    assert south.heard["north"] == reference, "it has heard as much as the reference"
    assert south.ids() == [], "and misses a write"
    north.pulse()
    south.take(north.stream(len(south.ids())))
    assert south.heard["north"] > reference
    assert (south.ids(), number) == ([identity], 1)
    assert north.write("too late") is None


def test_two_stores_that_went_different_ways_hear_nothing_of_each_other(
    store: ModuleType, tmp_path: Path
) -> None:
    north, south = stores(store, tmp_path)
    north.write("here")
    (tmp_path / "south" / "read-only").unlink()
    south.write("there")
    for told in (north.stream(1), north.stream(0)):
        with pytest.raises(store.Conflict):
            south.take(told)
    assert south.heard == {}


def test_a_rewind_forgets_exactly_what_came_after_and_only_of_a_frozen_store(
    store: ModuleType, tmp_path: Path
) -> None:
    north, south = stores(store, tmp_path)
    kept = [north.write(text)[0] for text in "ab"]
    south.take(north.stream(0))
    (tmp_path / "south" / "read-only").unlink()
    south.write("while it was open")
    with pytest.raises(store.Conflict):
        south.rewind(2)
    (tmp_path / "south" / "read-only").touch()
    assert south.rewind(2) == 1
    assert south.ids() == kept
    home = tmp_path / "south"
    assert store.Store("south", home / "writes.jsonl", home).ids() == kept
    south.take(north.stream(2))


def test_a_line_that_was_cut_short_was_never_acknowledged(
    store: ModuleType, tmp_path: Path
) -> None:
    north, _ = stores(store, tmp_path)
    identity, _ = north.write("whole")
    path = tmp_path / "north" / "writes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "ha')
    again = store.Store("north", path, tmp_path / "north")
    assert again.ids() == [identity]
    again.write("after it")
    assert len(path.read_bytes().splitlines()) == 2
