"""The shop's move by hand, without the engine: what the example relies on holds by itself.

With the freeze no acknowledged order is lost; without it orders are, and no client sees an error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import dns.query
import dns.tsigkeyring
import dns.update
import pytest

from runbook.sandbox.handle import WorldHandle, start_world
from runbook.sandbox.judge import read_records, start_judge
from runbook.sandbox.judgement import Judgement
from tests.sandbox.worlds import SHOP, shop_plan

KEYS = dns.tsigkeyring.from_text(
    {"shop-move": ("hmac-sha256", "c2FuZGJveC1vbmx5LW5vdC1hLXNlY3JldA==")}
)
NEW = "203.0.113.10"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WorldHandle]:
    with start_world(shop_plan(), SHOP / "sandbox.yml", tmp_path / "w") as handle:
        yield handle


def flip(world: WorldHandle) -> None:
    update = dns.update.UpdateMessage("shop.example.", keyring=KEYS)
    update.replace("@", 3600, "A", NEW)
    host, port = world.authoritative
    assert dns.query.tcp(update, host, port=port, timeout=5).rcode() == 0


def do(world: WorldHandle, host: str, command: str) -> None:
    said = world.run(host, command)
    assert said.exit_code == 0, said.stderr


def orders_placed(records: Path, count: int) -> None:
    """Wait until ``count`` more orders are acknowledged, wherever they are served."""
    wanted = count + sum(bool(item.id) for item in read_records(records))
    for _ in range(500):
        if sum(bool(item.id) for item in read_records(records)) >= wanted:
            return
        threading.Event().wait(0.02)
    raise AssertionError("no more orders are acknowledged")


def move(world: WorldHandle, records: Path, *, freeze: bool) -> Judgement:
    do(world, "east-web", "rsync -a -e ssh shop/ west-web:shop/; ssh west-web mkdir data")
    do(world, "west-web", "echo SITE=west > shop.conf")
    judging = start_judge(world, SHOP / "sandbox.yml", records)
    orders_placed(records, 5)
    if freeze:
        do(world, "west-web", "touch shop/maintenance.on")
        do(world, "east-web", "touch shop/maintenance.on; until curl -s "
           "http://198.51.100.10/health | grep -q '\"in_flight\": 0'; do :; done")
    do(world, "east-web", "python3 shop/orders.py export data/final.db && "
       "rsync -a data/final.db west-web:data/orders.db")
    do(world, "west-web", "systemctl enable --now shop")
    if not freeze:
        orders_placed(records, 5)
    flip(world)
    if freeze:
        do(world, "west-web", "rm shop/maintenance.on")
    world.clock.wait(world.clock.now() + 3700)
    orders_placed(records, 5)
    return judging.stop()


def test_with_the_freeze_nothing_is_lost(world: WorldHandle, tmp_path: Path) -> None:
    said = move(world, tmp_path / "records", freeze=True)
    assert said.writes_lost == 0
    assert said.write_outage.count >= 1
    assert said.write_outage.longest_virtual > 1000, "until the caches forgot the old address"
    assert said.reads_fallback > 0
    assert said.read_outage.count == 0, said.first_errors
    assert set(said.served_by) == {"198.51.100.10", NEW}


def test_without_it_orders_are_lost_and_nobody_sees_an_error(
    world: WorldHandle, tmp_path: Path
) -> None:
    said = move(world, tmp_path / "records", freeze=False)
    assert said.errors == 0
    assert said.writes_lost is not None
    assert said.writes_lost >= 5


def test_going_back_brings_the_new_sides_orders_home(world: WorldHandle) -> None:
    do(world, "east-web", "rsync -a shop/ west-web:shop/; ssh west-web mkdir data")
    order = "curl -sf -d x http://198.51.100.10/orders"
    do(world, "east-web", f"{order} && python3 shop/orders.py export data/final.db && "
       "rsync -a data/final.db west-web:data/orders.db")
    do(world, "west-web", f"systemctl start shop && {order.replace('198.51.100.10', NEW)}")
    do(world, "east-web", "ssh west-web python3 shop/orders.py export data/back.db && "
       "rsync -a west-web:data/back.db data/back.db && python3 shop/orders.py merge data/back.db")
    assert world.run("east-web", "python3 shop/orders.py count").stdout == "2\n"
