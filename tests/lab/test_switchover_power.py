"""The old primary's power is cut while PostgreSQL moves, at each step in turn, with somebody who
writes; it comes back, and boots its server as its machine always does.

A link that has died without a word is noticed after 20 s and more, several times over, so this is
no part of `make test`. All of it, about ten minutes; or name one step:

    LAB_POWER=all python -m pytest tests/lab/test_switchover_power.py
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import postgres
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.postgres import PostgresWriter, ids
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import BACK, NEW, OLD, PASSWORD

ASKED = os.environ.get("LAB_POWER", "")

pytestmark = [
    *marks, pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="takes ten minutes: LAB_POWER=all plays it"),
    pytest.mark.skipif(not postgres.programs(), reason="no PostgreSQL here"),
]

SWITCHOVER = "  - {id: database, playbook: postgres/switchover, with: {from: east, to: west}}\n"
STEPS = ("freeze", "fence", "promote", "thaw", "rejoin")


@pytest.fixture
def pair() -> Iterator[Lab]:
    boot = {"/etc/runbook-lab/boot.d/postgres": postgres.boot()}
    with Lab.open(files={OLD: boot, NEW: boot}) as lab:
        postgres.make_pair(lab)
        yield lab


@pytest.mark.parametrize("step", [s for s in STEPS if ASKED in {"", "all", s}])
def test_the_old_primary_loses_its_power(pair: Lab, tmp_path: Path, step: str) -> None:
    runs = Runs(pair, tmp_path, postgres.databases(), DB_PASSWORD=PASSWORD)
    with PostgresWriter(pair) as writer:
        writer.more(20)
        cutter = threading.Thread(target=_cut_at, args=(pair, runs, step))
        cutter.start()
        code, state, text = runs.run(SWITCHOVER, head=BACK, patience=400)
        cutter.join()
        assert code in {ExitCode.HELD, ExitCode.NOT_RESTORED, ExitCode.IN_DOUBT}, text
        assert "east" in text, text
        promoted = postgres.ask(pair, NEW, "SELECT pg_is_in_recovery()") == "f"
        if promoted:
            # It had everything, and goes on: what cannot be taken back is not begun.
            writer.more(10)
            known = set(writer.acknowledged)
            assert known <= ids(pair, NEW)
            assert state.phase is RunPhase.HELD
            # Whether the command had begun on the machine that lost its power decides the words.
            assert "nobody can tell what would be lost" in text or "in doubt: database/" in text
        pair.power_on(OLD)
        wait_for("its server is back", lambda: postgres.running(pair, OLD), 60)
        if promoted:
            assert postgres.ask(pair, OLD, "SELECT pg_is_in_recovery()") == "t", "two primaries"
            code, state, text = runs.command("resume", "--plain")
            assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
            writer.more(10)
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        writer.more(10)
    assert writer.acknowledged <= ids(pair, OLD)
    wait_for("the other side has them too", lambda: writer.acknowledged <= ids(pair, NEW), 60)


def _cut_at(lab: Lab, runs: Runs, step: str) -> None:
    """Cut the power as a step begins: once the one before it is verified."""
    before = STEPS.index(step) - 1

    def begun() -> bool:
        nodes = runs.nodes()
        if before < 0:
            return bool(nodes) and nodes["database/freeze"].state is not NodeState.PENDING
        return bool(nodes) and nodes[f"database/{STEPS[before]}"].state is NodeState.VERIFIED

    wait_for("the step begins", begun, 60)
    lab.power_cut(OLD)
