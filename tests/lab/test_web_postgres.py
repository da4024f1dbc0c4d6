"""The example web-postgres in the lab: HAProxy, nginx, an application, PgBouncer, PostgreSQL, DNS
and customers from outside. Whichever way it moves, and wherever it turns back, no acknowledged
order is lost.

``make test`` lets a few steps fail for each variant; with LAB_EVERY_STEP=1 it is each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import web_postgres
from tests.lab.customers import Request, outage
from tests.lab.lab import MACHINES, RESOLVERS, Lab
from tests.lab.needs import marks
from tests.lab.processes import wait_for
from tests.lab.switchover import NEW, OLD
from tests.lab.web_postgres import EXAMPLE, VARIANTS, Customers, Move, orders_at

pytestmark = [
    *marks, pytest.mark.slow, pytest.mark.xdist_group("web-postgres"),
    pytest.mark.skipif(bool(web_postgres.missing()), reason=web_postgres.missing() or "-"),
]

# Before the promotion, right after it, and when both sides have served.
SOME = {"dns-only": ("records/flip",), "forward": ("fence",), "hold": ("promote",)}


def _steps(variant: str) -> tuple[str, ...]:
    if os.environ.get("LAB_EVERY_STEP") != "1":
        return SOME[variant]
    return tuple(load_plan(EXAMPLE / f"{variant}.yml", []).by_id)


FAILING = [(variant, step) for variant in VARIANTS for step in _steps(variant)]


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with web_postgres.open_shop() as lab:
        yield lab


@pytest.fixture
def lab(opened: Lab) -> Lab:
    web_postgres.back_to_the_start(opened)
    return opened


@pytest.mark.parametrize(("variant", "killed"), [("dns-only", "fence"), ("forward", "")])
def test_the_shop_moves_and_loses_no_order(
    lab: Lab, tmp_path: Path, variant: str, killed: str
) -> None:
    """Also where the controller dies while neither side takes orders, and is resumed."""
    with Customers(lab, tmp_path) as customers:
        move = _moved(lab, tmp_path, variant, killed)
        customers.more(20)
    assert customers.acknowledged <= orders_at(lab, NEW), "no acknowledged order is lost"
    # The old database follows: the shortest way back.
    wait_for("the east has them too", lambda: customers.acknowledged <= orders_at(lab, OLD))
    for resolver in RESOLVERS.values():
        assert lab.dig(f"@{resolver}", "shop.example", "A") == [MACHINES[NEW]]
    assert "<svg" in lab.run("client", "curl", "-s", "http://shop.example/files/book.svg").stdout
    assert move.state().level == "live"


def test_held_orders_never_fail_on_the_way_there_and_on_the_way_back(
    lab: Lab, tmp_path: Path
) -> None:
    """The run is taken back after it was done: what the west took comes home."""
    with Customers(lab, tmp_path) as customers:
        move = _moved(lab, tmp_path, "hold")
        customers.more(20)
        there = customers.acknowledged
        assert there <= orders_at(lab, NEW), "no acknowledged order is lost"
        assert move.rollback() == ExitCode.ROLLED_BACK, move.log
        customers.more(20)
    assert there < customers.acknowledged <= orders_at(lab, OLD)
    assert customers.failed_writes == 0


def _moved(lab: Lab, folder: Path, variant: str, killed: str = "") -> Move:
    move = Move(lab, folder / "move", variant)
    code = move.killed_once(killed) if killed else move.run()
    state = move.state()
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), move.log
    assert {n.state for n in state.nodes.values()} == {NodeState.VERIFIED}
    return move


@pytest.mark.parametrize(("variant", "step"), FAILING)
def test_a_step_fails_and_the_shop_stays(
    lab: Lab, tmp_path: Path, variant: str, step: str
) -> None:
    """It fails right after it took effect, with customers ordering all the time."""
    with Customers(lab, tmp_path) as customers:
        move = Move(lab, tmp_path / "move", variant, fail=step)
        code, state = move.run(), move.state()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), move.log
        touched = [n for n in state.nodes.values() if n.intended]
        assert {n.state for n in touched} <= {NodeState.ROLLED_BACK}
        customers.more(20)
    assert customers.acknowledged <= orders_at(lab, OLD), "no acknowledged order is lost"
    if variant == "hold":
        assert customers.failed_writes == 0
    wait_for("the west follows", lambda: customers.acknowledged <= orders_at(lab, NEW))
    for resolver in RESOLVERS.values():
        assert lab.dig(f"@{resolver}", "shop.example", "A") == [MACHINES[OLD]]


def test_without_a_freeze_orders_are_lost_and_the_judge_sees_it(lab: Lab, tmp_path: Path) -> None:
    from tests.bench.bench_outage import by_hand

    with Customers(lab, tmp_path) as customers:
        by_hand(lab, tmp_path, "naive")
        wait_for("DNS leads to the new side", lambda: bool(
            customers.acknowledged & orders_at(lab, NEW) - orders_at(lab, OLD)))
        customers.more(20)
    lost = customers.acknowledged - orders_at(lab, NEW)
    assert lost and not customers.failed_writes, "they were acknowledged, and nobody saw an error"


def test_an_outage_is_told_from_none() -> None:
    seen = [Request("write", at, at + 0.01, 201, str(at)) for at in (1.0, 1.1, 4.0, 4.1)]
    assert outage(seen, "write") == pytest.approx(2.9)
    assert outage(seen, "write", end=10.0) == pytest.approx(5.89)
    seen.insert(2, Request("write", 2.0, 2.5, 503, ""))
    assert outage(seen, "write") == pytest.approx(2.9)
