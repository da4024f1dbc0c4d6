"""A controller in the lab: ``controller.py STATE RUNBOOK [FAIL]`` starts a run as the command
line does.

It prints the run's id and its phases as `runbook run --plain` does, and ends with its exit code.
Unlike that command it does not ask for a rehearsal first, and the step FAIL fails right after it
took effect.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runbook.cli import session, wiring
from runbook.journal import open_store
from runbook.model.faults import Fault


def main(state: str, file: str, fail: str = "") -> int:
    plan = wiring.load_plan(Path(file), [])
    # What only rehearsals have: a live run never gets faults from the command line.
    faults = [Fault(kind="fail", step=fail)] if fail else []
    run_id, driven = session.start(
        plan, open_store(Path(state)), show=session.Show.PLAIN, faults=faults
    )
    print(f"{run_id} ended: {driven.phase} {driven.why}", flush=True)
    return int(driven.exit_code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
