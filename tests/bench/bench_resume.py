"""Taking up a run with 10,000 finished steps, against fetching the same rows from raw SQLite."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from runbook.journal import Draft, open_store
from runbook.model.folding import fold
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.state import NodeState

STEPS = 10_000
RUNS = 5


def plan() -> Plan:
    return Plan(runbook="bench", steps=tuple(
        PlannedStep(
            id=f"s{n}", kind="shell", estimate=1, estimate_undo=1,
            after=(f"s{n - 1}",) if n else (),
            nodes=(Node(id=f"s{n}", step=f"s{n}", args={"command": f"true {n}"}),),
        ) for n in range(STEPS)
    ))


def fill(directory: Path) -> str:
    store = open_store(directory)
    run = store.create(plan(), who="bench", now=0.0)
    lease = store.acquire(run, "bench")
    drafts = [Draft("run_started", data={"who": "bench"})]
    for n in range(STEPS):
        drafts.append(Draft("intent", f"s{n}", "do", 1, {"before": {}, "actions": [
            {"action": "run_command", "host": None, "script": f"true {n}"}]}))
        drafts.append(Draft("done", f"s{n}", "do", 1, {"results": [
            {"ok": True, "data": {"exit_code": 0}}]}))
        drafts.append(Draft("verified", f"s{n}", "do", 1, {"seen": "ok", "after": {}}))
    lease.append(drafts, ts=1.0)
    lease.release()
    return run


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        run = fill(directory)
        ours, raw = [], []
        for _ in range(RUNS):
            began = time.perf_counter()
            loaded, events = open_store(directory).load(run)
            state = fold(run, loaded, events)
            ours.append(time.perf_counter() - began)
            assert all(n.state is NodeState.VERIFIED for n in state.nodes.values())
            began = time.perf_counter()
            with sqlite3.connect(directory / "journal.db") as db:
                rows = db.execute("SELECT * FROM event WHERE run_id=?", (run,)).fetchall()
            raw.append(time.perf_counter() - began)
            assert len(rows) == 3 * STEPS + 1
    print(
        f"{STEPS} finished steps ({3 * STEPS} events): load, check the hash chain and fold "
        f"{statistics.median(ours):.2f} s; raw SELECT {statistics.median(raw):.3f} s; "
        f"{statistics.median(a / b for a, b in zip(ours, raw, strict=True)):.1f} x"
    )


if __name__ == "__main__":
    main()
