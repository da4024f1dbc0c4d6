from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runbook.errors import Refused
from runbook.sandbox.handle import WorldHandle
from runbook.sandbox.judge import RunningJudge, read_records, start_judge
from runbook.sandbox.judgement import Attempt, Judgement, judge
from tests.sandbox.worlds import SHOP


def write(at: float, identity: str = "", *, rate: float = 1.0, status: int = 201) -> Attempt:
    return Attempt(
        op="write", ok=bool(identity), began=at, ended=at + 0.1, virtual_began=at * rate,
        virtual_ended=(at + 0.1) * rate, status=status, id=identity, address="192.0.2.1",
    )


def read(at: float, *, ok: bool = True, fallback: bool = False) -> Attempt:
    return Attempt(
        op="read", ok=ok, began=at, ended=at + 0.1, virtual_began=at, virtual_ended=at + 0.1,
        status=200 if ok else 0, fallback=fallback, error="" if ok else "refused",
    )


def test_nothing_wrong_is_no_outage() -> None:
    said = judge([write(0, "a"), write(1, "b"), read(0.5)], ["a", "b", "c"])
    assert said.write_outage.count == 0
    assert said.writes_lost == 0
    assert (said.requests, said.errors, said.writes_acknowledged) == (3, 0, 2)
    assert said.served_by == {"192.0.2.1": 2, "": 1}


def test_it_notices_lost_writes() -> None:
    said = judge([write(0, "a"), write(1, "b"), write(2, "c")], ["a", "c"])
    assert said.writes_lost == 1
    assert said.lost_ids == ("b",)


def test_a_write_never_acknowledged_is_not_lost() -> None:
    assert judge([write(0, "a"), write(1, status=0)], ["a"]).writes_lost == 0


def test_without_an_audit_loss_is_unknown() -> None:
    assert judge([write(0, "a")], None).writes_lost is None


def test_an_outage_is_the_gap_between_acknowledged_writes() -> None:
    attempts = [write(0, "a"), write(1), write(2), write(5, "b"), write(6), write(7, "c")]
    said = judge(attempts, None).write_outage
    assert said.count == 2
    assert said.longest_real == pytest.approx(5.0)
    assert said.total_real == pytest.approx(7.0)
    assert said.longest_virtual == pytest.approx(4.1), "from the first failed attempt"


def test_an_outage_lasts_to_the_end_of_the_record() -> None:
    said = judge([write(0, "a"), write(1), write(9)], None).write_outage
    assert said.longest_real == pytest.approx(9.0)


def test_racing_time_without_a_failure_is_no_outage() -> None:
    said = judge([write(0, "a"), write(1, "b", rate=50_000)], None).write_outage
    assert said == judge([], None).write_outage


def test_another_writers_success_ends_an_outage() -> None:
    said = judge([write(0, "a"), write(1), write(1.05, "b"), write(1.2)], None).write_outage
    assert said.longest_real < 1.2


def test_fallback_pages_count_as_loaded() -> None:
    said = judge([read(0), read(1, fallback=True), read(2, ok=False), read(3)], None)
    assert (said.reads_loaded, said.reads_fallback, said.errors) == (3, 1, 1)
    assert said.read_outage.count == 1
    assert said.first_errors == ("read: refused",)


def test_a_record_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_text(read(0).model_dump_json() + "\n" + '{"op": "re')
    assert read_records(path) == [read(0)]


def until_acknowledged(path: Path, more: int) -> None:
    """Wait until ``more`` further writes are acknowledged."""
    wanted = more + sum(bool(item.id) for item in read_records(path))
    for _ in range(500):
        if sum(bool(item.id) for item in read_records(path)) >= wanted:
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"no {more} writes in 10 s: {read_records(path)[-3:]}")


def begin(world: WorldHandle, records: Path) -> RunningJudge:
    judging = start_judge(world, SHOP / "sandbox.yml", records)
    until_acknowledged(records, 3)
    return judging


def test_a_quiet_shop_loses_nothing(world: WorldHandle, tmp_path: Path) -> None:
    said = begin(world, tmp_path / "records").stop()
    assert said.errors == 0, said.first_errors
    assert said.writes_lost == 0
    assert said.write_outage.count == 0
    assert set(said.served_by) == {"198.51.100.10"}


def test_maintenance_is_a_write_outage_and_no_read_outage(
    world: WorldHandle, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    judging = begin(world, records)
    world.run("east-web", "touch shop/maintenance.on")
    threading.Event().wait(0.4)
    world.run("east-web", "rm shop/maintenance.on")
    until_acknowledged(records, 2)
    said = judging.stop()
    assert 0.35 < said.write_outage.longest_real < 5
    assert said.read_outage.count == 0
    assert said.reads_fallback > 0
    assert said.writes_lost == 0


def test_a_lost_database_is_noticed(world: WorldHandle, tmp_path: Path) -> None:
    """The naive move: copy, take orders on the old side for a moment longer, forget them."""
    records = tmp_path / "records"
    world.run("east-web", "python3 shop/orders.py export data/copy.db")
    judging = begin(world, records)
    world.run("east-web", "touch shop/maintenance.on")
    until_quiet = world.run(
        "east-web", "until curl -s http://198.51.100.10/health | grep -q 'flight\": 0'; "
        "do :; done; mv data/copy.db data/orders.db; rm shop/maintenance.on",
    )
    assert until_quiet.exit_code == 0
    said: Judgement = judging.stop()
    assert said.writes_lost is not None
    assert said.writes_lost >= 3


def test_without_traffic_there_is_no_judge(world: WorldHandle, tmp_path: Path) -> None:
    config = tmp_path / "sandbox.yml"
    config.write_text("hosts: {}\n")
    with pytest.raises(Refused, match="traffic"):
        start_judge(world, config, tmp_path / "records")
