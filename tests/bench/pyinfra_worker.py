"""pyinfra driven by lines on standard input: the hosts first, then how many commands in a row."""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

from pyinfra.api import Config, Inventory, State  # noqa: E402
from pyinfra.api.connect import connect_all, disconnect_all  # noqa: E402


def in_a_row(host: Any, times: int) -> None:
    for _ in range(times):
        ok, _ = host.run_shell_command("true")
        assert ok, host.name


def main() -> None:
    known = json.loads(sys.stdin.readline())
    inventory = Inventory((known["hosts"], known["options"]))
    state = State(inventory, Config(PARALLEL=known["parallel"]))
    connect_all(state)
    print("done", flush=True)
    for line in sys.stdin:
        running = [state.pool.spawn(in_a_row, host, int(line)) for host in inventory]
        for one in running:
            one.get()
        print("done", flush=True)
    disconnect_all(state)


if __name__ == "__main__":
    main()
