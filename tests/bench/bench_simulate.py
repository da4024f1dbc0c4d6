"""How long 10,000 simulated runs take, against an event loop in plain Python.

``python -m tests.bench.bench_simulate`` prints, for three shapes of plan, the processor seconds of
a whole prediction (quantiles, way back from every step, critical path, what shortening each step
buys) and their ratio to a plain event loop over a heap, which only finds when each run ends
(``naive_simulation``; a sample of its runs is timed and scaled up).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runbook.engine.history import History
from runbook.engine.simulate.predict import predict
from runbook.engine.simulate.work import lay_out
from runbook.kinds import registry
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runbook import Policy, Window
from tests.bench.naive_simulation import simulated_ends

RUNS, SAMPLE = 10_000, 100
_WINDOW = Window(start=1_000_000_000.0, duration=7200.0, timezone="UTC")


def lanes(steps: int, beside: int, *, hosts: int = 1, slots: int = 32) -> Plan:
    """``beside`` chains of steps, each step after the one before it and after its neighbour's."""
    made = []
    for number in range(steps):
        row, column = divmod(number, beside)
        after = {f"s{(row - 1) * beside + one}" for one in (column, (column + 1) % beside)}
        nodes = tuple(
            Node(id=f"s{number}@h{host}", step=f"s{number}", host=f"h{host}",
                 args={"command": "true"})
            for host in range(hosts)
        )
        made.append(PlannedStep(
            id=f"s{number}", kind="shell", nodes=nodes, after=tuple(sorted(after)) if row else (),
            estimate=10.0 + number % 7, estimate_undo=5.0,
        ))
    return Plan(runbook="big", steps=tuple(made), policy=Policy(max_parallel=slots),
                window=_WINDOW)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this one thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def main() -> None:
    cases = [
        ("500 steps, 5 beside each other", lanes(500, 5)),
        ("500 steps, 5 beside each other, 3 slots", lanes(500, 5, slots=3)),
        ("20 steps on 200 hosts, 32 slots", lanes(20, 1, hosts=200)),
    ]
    for title, plan in cases:
        layout = lay_out(plan, registry(), History(), level="live", origin=_WINDOW.start)

        def ours(plan: Plan = plan) -> object:
            layout = lay_out(plan, registry(), History(), level="live", origin=_WINDOW.start)
            return predict(plan, layout, runs=RUNS, seed=1, certainty=0.95, level="live",
                           dated=True)

        mine = seconds(ours)
        plain = seconds(lambda layout=layout: simulated_ends(layout, SAMPLE, 1)) * RUNS / SAMPLE
        print(f"{title}: {RUNS:,} runs in {mine:.1f} s of one processor, {plain / mine:.0f} × "
              f"faster than a plain event loop ({plain:.0f} s)")


if __name__ == "__main__":
    main()
