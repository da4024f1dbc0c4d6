"""The example for real: over OpenSSH, BIND with TSIG, real caches, customers who order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import shop
from tests.lab.lab import RESOLVERS, Lab
from tests.lab.needs import marks
from tests.lab.processes import wait_for
from tests.lab.shop import EAST, WEST, Move, records_of

pytestmark = [*marks, pytest.mark.slow]


@pytest.fixture
def shop_lab() -> Iterator[Lab]:
    with Lab.open(shop.zone(), files=shop.files()) as lab:
        wait_for("the shop is open", lambda: 80 in lab_ports(lab))
        yield lab


def lab_ports(lab: Lab) -> set[int]:
    from tests.lab.processes import listening

    return listening(lab["east-web"].init)


def test_the_move(shop_lab: Lab, tmp_path: Path) -> None:
    before = records_of(shop_lab)
    move = Move(shop_lab, tmp_path / "move")
    try:
        move.open_for_orders()
        move.start()
        code = move.to_its_end()
        state = move.state()
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), move.log
        assert {n.state for n in state.nodes.values()} == {NodeState.VERIFIED}
        assert state.level == "live"
        # Orders are taken in the west, by the name alone.
        at_the_end = move.acknowledged()
        wait_for("more orders", lambda: len(move.acknowledged()) >= len(at_the_end) + 5)
    finally:
        move.close()
    assert move.acknowledged() <= move.orders_at("west-web"), "no acknowledged order is lost"
    assert move.pages_failed() == [], "pages always load"
    expected = [line.replace(EAST, WEST) for line in before]
    assert records_of(shop_lab) == sorted(expected)
    for resolver in RESOLVERS.values():
        assert shop_lab.dig(f"@{resolver}", "shop.example", "A") == [WEST]
    # The old side is up, and closed for those who still hold its address.
    page = shop_lab.run("client", "curl", "-s", f"http://{EAST}/").stdout
    assert "We are moving to a new datacenter" in page
    # What was enabled is there after a power cut.
    shop_lab.power_cut("west-web")
    shop_lab.power_on("west-web")
    wait_for("the shop is back", lambda: '"site": "west"' in shop_lab.run(
        "client", "curl", "-s", "http://shop.example/health", check=False).stdout)


def test_a_step_fails_after_the_thaw_and_all_is_put_back(shop_lab: Lab, tmp_path: Path) -> None:
    """The new side has taken orders by then: they come home."""
    doomed = """\
  - id: doomed
    title: It holds until some orders have been taken in the west, and fails then
    kind: shell
    hosts: west-web
    undo: "true"
    with:
      command: |
        n=$(python3 shop/orders.py count)
        until [ $(python3 shop/orders.py count) -gt $((n + 5)) ]; do sleep 0.1; done
        exit 3
  # Afterwards."""
    before = records_of(shop_lab)

    def change(text: str) -> str:
        assert text.count("  # Afterwards.") == 1
        return text.replace("  # Afterwards.", doomed)

    move = Move(shop_lab, tmp_path / "move", change)
    try:
        move.open_for_orders()
        move.start()
        code = move.to_its_end()
        state = move.state()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), move.log
        assert state.nodes["doomed@west-web"].detail, "the report can say what failed"
        assert state.step_state("flip") is NodeState.ROLLED_BACK
        at_the_end = move.acknowledged()
        wait_for("the east takes orders", lambda: len(move.acknowledged()) >= len(at_the_end) + 5)
    finally:
        move.close()
    assert move.acknowledged() <= move.orders_at("east-web"), "no acknowledged order is lost"
    assert move.pages_failed() == [], "pages always load"
    assert records_of(shop_lab) == before
    left = shop_lab["west-web"].run("ls -A /root; systemctl is-active shop; "
                                    "systemctl is-enabled shop", check=False).stdout.split()
    assert not {"shop", "data", "shop.conf"} & set(left)
    assert left[-2:] == ["inactive", "disabled"]
