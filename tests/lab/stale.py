"""A controller to be paused: ``stale.py HOSTS STATE RUN HOST``.

It launches one command after the other under the epoch 1 of a run, each of which leaves a line on
the host, until a newer controller has taken the run over. It prints how many were launched and
why it ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runbook.errors import RunbookError
from runbook.model.actions import RunCommand
from runbook.model.inventory import Inventory
from tests.transports.ssh_lab import key, make_pool, silent

MARK = 'read -r boot hash epoch <"${0%/*}/started"; echo "RUN $epoch" >>/run/effects'
"""Who launched it, as the host has it on record."""


def main(hosts: str, state: str, runs: str, host: str) -> None:
    inventory = Inventory.model_validate_json(Path(hosts).read_text())
    for run in runs.split(","):
        pool = make_pool(inventory, Path(state) / run, run=run, epoch=1)
        try:
            pool.prepare((host,), {})
            for number in range(10_000):
                action = RunCommand(host=host, script=MARK.replace("RUN", run))
                pool.perform(action, key(f"step-{number}"), silent)
        except RunbookError as fault:
            print(f"{run} {type(fault).__name__}: {fault}", flush=True)
        pool.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
