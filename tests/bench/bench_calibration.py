"""Do predictions come true? An example, foretold from a few rehearsals, then run again and again.

``python -m tests.bench.bench_calibration [EXAMPLE]`` rehearses examples/shop-2009, or the one that
is named, three times in the sandbox (each move is done and taken back), simulates it for the
sandbox, and then runs it ten times there, each run taken back in the end. In rehearsals and runs
alike random actions are slowed down. It prints, for the end of each run and for its way back, what
was foretold and what came, and fails where fewer than eight in ten came between p5 and p95, or no
later than p90.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from runbook.cli import levels, session
from runbook.cli.embedded import embedded
from runbook.cli.foretelling import forecast_of
from runbook.cli.session import Order, Show, start, take_up
from runbook.cli.simulated import Odds, foretell
from runbook.cli.stages import HURRY
from runbook.cli.wiring import load_plan
from runbook.engine.rollback import past_return
from runbook.engine.simulate.foretold import Came
from runbook.engine.simulate.prediction import kept
from runbook.errors import ExitCode
from runbook.journal import Store, open_store
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState

EXAMPLES = Path(__file__).parents[2] / "examples"
ENOUGH = 0.8
_SLOWED, _BY = 0.3, 0.6
"""Of the actions so many are slowed down, by so many seconds on average."""


class SlowActuator:
    """What is behind a world's actuator, with random actions slowed down."""

    def __init__(self, inner: Any, chance: random.Random) -> None:
        self._inner = inner
        self._chance = chance
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def perform(self, *arguments: Any) -> Any:
        with self._lock:
            slowed = self._chance.random() < _SLOWED
            seconds = self._chance.expovariate(1 / _BY) if slowed else 0.0
        threading.Event().wait(seconds)
        return self._inner.perform(*arguments)


class SlowWorld:
    def __init__(self, inner: Any, chance: random.Random) -> None:
        self._inner = inner
        self.actuator = SlowActuator(inner.actuator, chance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def noise(chance: random.Random) -> Iterator[None]:
    """Every world that a run opens meanwhile is a slow one."""
    real = session._world

    def slow(*arguments: Any) -> Any:
        return SlowWorld(real(*arguments), chance)

    with mock.patch.object(session, "_world", slow):
        yield


def there_and_back(plan: Plan, store: Store, config: Path, chance: random.Random) -> RunState:
    """The move in a world of its own, done and then taken back."""
    with noise(chance), embedded(plan, config, traffic=False, longest_wait=HURRY) as played:
        run_id, driven = start(
            plan, store, level="sandbox", endpoints_file=str(played.endpoints_file),
            show=Show.NOTHING,
        )
        assert driven.exit_code is ExitCode.OK, driven.why
        loss = [step.id for step in past_return(fold(run_id, *store.load(run_id)), None)]
        driven = take_up(store, run_id, show=Show.NOTHING, order=Order("rollback", {
            "why": "to measure the way back", "accept_loss": loss}))
        assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
    return fold(run_id, *store.load(run_id))


def campaign(
    plan: Plan, config: Path, state: Path, *, rehearsals: int, runs: int, seed: int
) -> list[tuple[str, tuple[Came, ...]]]:
    """What came of each run, by its id."""
    store = open_store(state)
    chance = random.Random(seed)
    for _ in range(rehearsals):
        there_and_back(plan, store, config, chance)
    prediction = foretell(plan, store, Odds(
        runs=10_000, seed=seed, certainty=0.95, world="sandbox", failure_rates=(),
    ))
    levels.record(store, plan, "simulate", "", prediction.ok, {
        "for": "sandbox", "foretold": kept(prediction).model_dump(mode="json"),
    })
    found = []
    for _ in range(runs):
        played = there_and_back(plan, store, config, chance)
        forecast = forecast_of(store, played)
        assert forecast is not None
        found.append((played.run_id, forecast.came))
    return found


def show(found: list[tuple[str, tuple[Came, ...]]], start_of_window: float) -> bool:
    """Print the table; whether enough held."""
    held = True
    for what in ("end", "way back"):
        rows = [(run, came) for run, several in found for came in several if came.what == what]
        q = rows[0][1].foretold
        base = start_of_window if what == "end" else 0.0
        label = "end, after the window opened" if what == "end" else "way back, from the end"
        p05, p50, p90, p95 = (f"{x - base:.1f}" for x in (q.p05, q.p50, q.p90, q.p95))
        print(f"\n{label}: foretold p5 {p05}, p50 {p50}, p90 {p90}, p95 {p95} s\n")
        print("| run | came s | p5…p95 | ≤ p90 |\n| --- | ---: | --- | --- |")
        for run, came in rows:
            print(f"| {run} | {came.actual - base:.1f} | {'held' if came.inside else 'NOT'} | "
                  f"{'held' if came.in_time else 'NOT'} |")
        inside = sum(came.inside for _, came in rows)
        in_time = sum(came.in_time for _, came in rows)
        print(f"\nheld: p5…p95 in {inside} of {len(rows)}, p90 in {in_time} of {len(rows)}")
        held = held and min(inside, in_time) >= ENOUGH * len(found)
    return held


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("example", nargs="?", default="shop-2009", help="a folder of examples/")
    options.add_argument("--rehearsals", type=int, default=3)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    folder = EXAMPLES / given.example
    plan = load_plan(folder / "runbook.yml", [])
    assert plan.window is not None, "the table counts from the opening of a window"
    with tempfile.TemporaryDirectory(prefix="runbook-calibration-") as name:
        found = campaign(plan, folder / "sandbox.yml", Path(name) / "state",
                         rehearsals=given.rehearsals, runs=given.runs, seed=given.seed)
    print(f"{given.example}: {given.rehearsals} rehearsals, then {given.runs} runs; "
          f"{_SLOWED:.0%} of all actions slowed down by {_BY} s on average")
    if not show(found, plan.window.start):
        sys.exit("fewer than eight in ten held")


if __name__ == "__main__":
    main()
