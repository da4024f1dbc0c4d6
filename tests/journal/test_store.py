"""The journal: durable, hash-chained, one lease a run, honest about damage."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from runbook.errors import Fenced, HeldByOther, JournalFault, NotFound
from runbook.journal import Draft, Store, open_store
from runbook.model.plan import Plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "state")


def new_run(store: Store, name: str = "move") -> str:
    return store.create(Plan(runbook=name), who="ada", now=1.0)


def test_events_come_back_as_written_and_the_chain_is_checked(store: Store) -> None:
    run = new_run(store)
    lease = store.acquire(run, "ada on east")
    lease.append([Draft("run_started", data={"who": "ada"})], ts=2.5)
    lease.append([Draft("intent", "a", "do", 1, {"before": {"state": {"ü": [1, 2.5]}}}),
                  Draft("done", "a", "do", 1, {"results": []})], ts=3.0)
    plan, events = store.load(run)
    assert plan.runbook == "move"
    assert [(e.kind, e.node, e.ts) for e in events] == [
        ("run_started", "", 2.5), ("intent", "a", 3.0), ("done", "a", 3.0)]
    assert events[1].data == {"before": {"state": {"ü": [1, 2.5]}}}
    assert events[1].prev_hash == events[0].hash


def test_many_open_a_new_journal_at_the_same_moment(tmp_path: Path) -> None:
    """A controller makes it while somebody asks for its status."""
    for number in range(60):
        together = threading.Barrier(6)

        def open_it(folder: Path, together: threading.Barrier = together) -> int:
            together.wait(20)
            with closing(open_store(folder)) as store:
                return len(store.runs())

        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(open_it, [tmp_path / f"state-{number}"] * 6))
        assert found == [0] * 6


@pytest.mark.parametrize("change", [
    "UPDATE event SET data='{}' WHERE seq=2",
    "UPDATE event SET ts=9 WHERE seq=2",
    "DELETE FROM event WHERE seq=2",
    "UPDATE event SET node='b' WHERE seq=3",
])
def test_a_changed_journal_is_refused_and_the_place_named(
    store: Store, tmp_path: Path, change: str
) -> None:
    run = new_run(store)
    lease = store.acquire(run, "x")
    for number in range(4):
        lease.append([Draft("note", data={"text": str(number)})], ts=float(number))
    with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
        db.execute(change)
    with pytest.raises(JournalFault, match=r"event [23] \(note\)"):
        store.load(run)


def test_a_second_controller_is_refused_and_told_who_holds_it(store: Store) -> None:
    run = new_run(store)
    lease = store.acquire(run, "ada on east")
    with pytest.raises(HeldByOther, match=rf"ada on east \(process {os.getpid()}\)"):
        store.acquire(run, "bob on west")
    assert store.holder(run) == f"ada on east (process {os.getpid()})"
    lease.release()
    assert store.holder(run) is None
    again = store.acquire(run, "bob on west")
    assert again.epoch == lease.epoch + 1


def test_an_old_epoch_can_write_nothing_more(store: Store) -> None:
    run = new_run(store)
    old = store.acquire(run, "ada")
    old.release()
    new = store.acquire(run, "bob")
    new.append([Draft("note", data={"text": "mine"})], ts=1.0)
    with pytest.raises(Fenced):
        old.append([Draft("note", data={"text": "stale"})], ts=2.0)
    with pytest.raises(Fenced):
        old.append([Draft("note", data={"text": "stale still"})], ts=3.0)
    assert [e.data["text"] for e in store.events(run)] == ["mine"]


def test_many_threads_append_whole_groups_in_one_chain(store: Store) -> None:
    run = new_run(store)
    lease = store.acquire(run, "x")
    seen: list[int] = []
    lease.on_commit = lambda event: seen.append(event.seq)

    def body(name: str) -> None:
        for number in range(20):
            lease.append([Draft("note", node=name, attempt=number, data={"part": part})
                          for part in range(2)], ts=1.0)

    threads = [threading.Thread(target=body, args=(f"n{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = store.events(run)
    assert len(events) == 8 * 20 * 2
    assert seen == [e.seq for e in events]
    for first, second in zip(events[::2], events[1::2], strict=True):
        assert (first.node, first.attempt) == (second.node, second.attempt)
        assert (first.data["part"], second.data["part"]) == (0, 1)


def test_the_same_intent_cannot_be_written_twice(store: Store) -> None:
    run = new_run(store)
    lease = store.acquire(run, "x")
    lease.append([Draft("intent", "a", "do", 1)], ts=1.0)
    with pytest.raises(JournalFault, match="UNIQUE"):
        lease.append([Draft("intent", "a", "do", 1)], ts=2.0)


def test_messages_leave_the_inbox_with_the_event_that_takes_them(store: Store) -> None:
    run = new_run(store)
    store.post(run, "approve", who="bob", now=5.0, node="go", data={"role": "dba"})
    (message,) = store.inbox(run)
    assert (message.verb, message.who, message.node, message.data) == (
        "approve", "bob", "go", {"role": "dba"})
    lease = store.acquire(run, "x")
    lease.append([Draft("decision", "go")], ts=6.0, taken=(message.id,))
    assert store.inbox(run) == []
    store.post(run, "approve", who="eve", now=7.0, node="go")
    assert store.inbox(run)[0].id > message.id


def test_runs_are_found_by_a_part_of_their_id(store: Store) -> None:
    first, second = new_run(store), new_run(store)
    assert store.find(first[-6:]) == first
    assert store.latest_run_id() == second
    with pytest.raises(NotFound, match="fits 2 runs"):
        store.find("move")
    with pytest.raises(NotFound, match="no run 'nope'"):
        store.find("nope")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with sqlite3.connect(tmp_path / "a" / "journal.db") as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(JournalFault, match="not a Runbook journal"):
        open_store(tmp_path / "a")


def test_a_newer_version_is_refused(store: Store, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(JournalFault, match="version 99"):
        open_store(tmp_path / "state")


def _append_until_killed(directory: str, run: str, ready: object) -> None:
    store = open_store(Path(directory))
    lease = store.acquire(run, "child")
    number = 0
    while True:
        lease.append([Draft("note", attempt=number, data={"n": number})], ts=1.0)
        if number == 20:
            ready.set()  # type: ignore[attr-defined]
        number += 1


def test_a_killed_writer_leaves_a_whole_chain_and_a_free_lock(store: Store) -> None:
    run = new_run(store)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    child = context.Process(
        target=_append_until_killed, args=(str(store.directory), run, ready)
    )
    child.start()
    assert ready.wait(30)
    with pytest.raises(HeldByOther, match="child"):
        store.acquire(run, "parent")
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    lease = store.acquire(run, "parent")
    events = store.events(run)
    assert len(events) > 20
    assert [e.data["n"] for e in events] == list(range(len(events)))
    lease.append([Draft("note", data={"n": "after"})], ts=2.0)
    assert store.events(run)[-1].data == {"n": "after"}


def test_one_run_whose_lock_cannot_be_looked_at_does_not_hide_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, denied = new_run(store), new_run(store, "long"), new_run(store, "denied")
    opened = os.open
    faults = {bad: errno.ENAMETOOLONG, denied: errno.EACCES}

    def refusing(path: Path, *arguments: int) -> int:
        for name, number in faults.items():
            if name in str(path):
                raise OSError(number, os.strerror(number))
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    assert {one.run_id: one.held_by for one in store.runs()} == {
        good: None, bad: None, denied: "somebody unknown (Permission denied)"}
    with pytest.raises(JournalFault, match=f"run {denied} cannot be taken.*Permission denied"):
        store.acquire(denied, "ada")


def test_a_run_that_can_have_no_folder_never_gets_into_the_journal(store: Store) -> None:
    with pytest.raises(JournalFault, match="File name too long"):
        new_run(store, "a" * 300)
    assert store.runs() == []


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("a" * 300)):
        with pytest.raises(JournalFault, match="cannot be made a folder"):
            open_store(bad)
