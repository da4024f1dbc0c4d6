"""Every step of the example fails in turn, right after it took effect: over OpenSSH, BIND, Knot
and real caches all is put back, while customers go on ordering and visitors get their pages.

One lab sees many rollbacks, one after the other: each finds the world as the first one found it.
Several labs go side by side, as most of the time is spent waiting for caches. ``make test`` lets
one step of each stage of the night fail; with LAB_EVERY_STEP=1 it is each of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.lab import shop
from tests.lab.fingerprint import difference, fingerprint
from tests.lab.lab import Lab
from tests.lab.names import SECONDARY
from tests.lab.needs import marks
from tests.lab.processes import listening, wait_for
from tests.lab.shop import EXAMPLE, Move, hurried, records_of

pytestmark = [*marks, pytest.mark.slow, pytest.mark.xdist_group("every step fails")]

STEPS = tuple(load_plan(EXAMPLE / "runbook.yml", []).by_id)
SOME = ("lower-ttl", "west-start", "freeze", "final-sync", "flip", "thaw", "everybody", "moved")
"""The old side's TTLs, the new side still closed, writes refused, copied, led over, opened, old
caches empty, all done."""
FAILING = STEPS if os.environ.get("LAB_EVERY_STEP") == "1" else SOME
LABS = 4
TTL = 2


@dataclass(frozen=True)
class TakenBack:
    """One run that failed, when all was over."""

    code: int
    state: RunState
    log: str
    lost: set[str]
    """Orders that were acknowledged and are not in the east."""
    acknowledged: int
    pages_failed: list[str]
    changed: list[str]


class Worlds:
    """A lab for each thread. One that was not left as it was found is not used again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = threading.local()
        self._open: list[Lab] = []

    def take_back(self, failing: str) -> TakenBack:
        lab, before = self._lab()
        move = Move(lab, self._folder / failing, hurried, fail=failing)
        try:
            move.open_for_orders()
            move.start()
            code = move.to_its_end()
            at_the_end = len(move.acknowledged())
            wait_for("the east takes orders", lambda: len(move.acknowledged()) > at_the_end + 2)
            state, log = move.state(), move.log
        except BaseException:
            self._mine.lab = None
            raise
        finally:
            move.close()
        wait_for("the secondary has followed",
                 lambda: records_of(lab, SECONDARY) == records_of(lab))
        changed = difference(before, fingerprint(lab))
        if changed:
            self._mine.lab = None
        acknowledged = move.acknowledged()
        return TakenBack(code, state, log, acknowledged - move.orders_at("east-web"),
                         len(acknowledged), move.pages_failed(), changed)

    def _lab(self) -> tuple[Lab, dict[str, str]]:
        if getattr(self._mine, "lab", None) is None:
            lab = open_shop()
            self._open.append(lab)
            self._mine.lab = (lab, fingerprint(lab))
        found: tuple[Lab, dict[str, str]] = self._mine.lab
        return found

    def close(self) -> None:
        for lab in self._open:
            lab.close()


def open_shop() -> Lab:
    lab = Lab.open(shop.zone(TTL), files=shop.files())
    wait_for("the shop is open", lambda: 80 in listening(lab["east-web"].init))
    return lab


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[TakenBack]]]:
    """All that were asked for, under way; the longest first."""
    wanted = {item.callspec.params["failing"] for item in request.session.items
              if isinstance(item, pytest.Function) and item.module is request.module
              and hasattr(item, "callspec")}
    worlds = Worlds(tmp_path_factory.mktemp("moves"))
    with ThreadPoolExecutor(LABS) as pool:
        yield {step: pool.submit(worlds.take_back, step)
               for step in reversed(STEPS) if step in wanted}
        pool.shutdown(cancel_futures=True)
    worlds.close()


def test_a_world_that_was_changed_is_told_from_one_that_was_not() -> None:
    """The fingerprint can fail: files, services and folders that differ are seen."""
    with open_shop() as lab:
        before = fingerprint(lab)
        lab["west-web"].run("echo x >extra; mkdir shop; echo SITE=x >shop.conf; "
                            "systemctl enable shop")
        lab["east-web"].run("chmod 600 shop.conf")
        seen = "\n".join(difference(before, fingerprint(lab)))
        for wanted in ("west-web:/root/extra: not there", "west-web:/root/shop.conf", "enabled",
                       "west-web:/root/shop:", "east-web:/root/shop.conf: -rw-r--r--"):
            assert wanted in seen
        lab["west-web"].run("systemctl disable shop; rm -r extra shop shop.conf")
        lab["east-web"].run("chmod 644 shop.conf")
        assert difference(before, fingerprint(lab)) == []


@pytest.mark.parametrize("failing", FAILING[::-1])
def test_the_world_is_as_before(runs: dict[str, Future[TakenBack]], failing: str) -> None:
    run = runs[failing].result()
    assert (run.code, run.state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), run.log
    touched = [n for n in run.state.nodes.values() if n.intended]
    assert {n.state for n in touched} <= {NodeState.ROLLED_BACK}
    assert run.state.step_state(failing) in {NodeState.ROLLED_BACK, NodeState.FAILED}
    assert run.changed == []
    assert run.acknowledged >= 5
    assert run.lost == set()
    assert run.pages_failed == [], "pages always load"
