"""SIGKILL for the controller, anywhere, over the real runner: nothing lost, nothing repeated."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.state import RunPhase
from tests.engine.controllers import Controllers

pytestmark = pytest.mark.slow


def _plan(ledger: Path) -> Plan:
    """Two parallel lines of commands that must not run twice, each with its undo."""

    def step(name: str, *after: str) -> PlannedStep:
        command = f"echo {name} >> {ledger}; sleep 0.03"
        return PlannedStep(
            id=name, kind="shell", after=after, estimate=1, estimate_undo=1,
            on_failure="rollback",
            nodes=(Node(id=name, step=name, args={"command": command},
                        undo=f"echo un-{name} >> {ledger}"),),
        )

    return Plan(runbook="kills", steps=(
        step("a"), step("b", "a"), step("c", "a"), step("d", "b"), step("e", "c", "d"),
    ))


def _check(controllers: Controllers, ledger: Path, seed: str) -> None:
    state = controllers.to_the_end()
    lines = Counter(ledger.read_text().split())
    names = "abcde"
    if controllers.fail:
        assert state.phase is RunPhase.ROLLED_BACK, (seed, state.why)
        for name in names:
            assert lines[f"un-{name}"] == lines[name] <= 1, (seed, lines)
    else:
        assert state.phase is RunPhase.DONE, (seed, state.why)
        assert lines == Counter(names), (seed, lines)


@pytest.mark.parametrize("fail", [(), ("e",)], ids=["forward", "rollback"])
def test_at_every_journal_append(tmp_path: Path, fail: tuple[str, ...]) -> None:
    kills = 0
    for edge in range(3, 200):
        place = tmp_path / str(edge)
        place.mkdir()
        controllers = Controllers(place / "state", _plan(place / "ledger"), fail)
        controllers.live(kill_at=edge)
        if not controllers.kills:
            break
        kills += controllers.kills
        _check(controllers, place / "ledger", f"edge {edge}")
    print(f"{kills} kills at the edges of journal appends")
    assert kills >= (60 if fail else 30)


@pytest.mark.parametrize("part", range(4))
def test_at_random_instants(tmp_path: Path, part: int) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kills = 0
    number = 0
    while kills < 30:
        number += 1
        place = tmp_path / str(number)
        place.mkdir()
        fail = ("e",) if rng.random() < 0.5 else ()
        controllers = Controllers(place / "state", _plan(place / "ledger"), fail)
        for _ in range(4):
            controllers.live(kill_after=rng.uniform(0.05, 0.5))
            if controllers.ended:
                break
        kills += controllers.kills
        _check(controllers, place / "ledger", f"seed {seed} number {number}")
