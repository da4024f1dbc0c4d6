"""A controller in the lab: ``controller.py STATE RUNBOOK`` starts a run as the command line does.

It prints the run's id and its phases as `runbook run --plain` does, and ends with its exit code.
Unlike that command it does not ask for a rehearsal first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runbook.cli import wiring
from runbook.cli.session import Show, start
from runbook.journal import open_store


def main(state: str, file: str) -> int:
    plan = wiring.load_plan(Path(file), [])
    run_id, driven = start(plan, open_store(Path(state)), show=Show.PLAIN)
    print(f"{run_id} ended: {driven.phase} {driven.why}", flush=True)
    return int(driven.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
