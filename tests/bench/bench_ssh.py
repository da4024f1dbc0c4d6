"""How much the runner costs against fabric's own way, on one loopback OpenSSH server.

Run it: ``python -m tests.bench.bench_ssh``. Figures are seconds for 20 in a row.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fabric

from runbook.model.actions import RunCommand
from tests.transports.ssh_lab import Sshd, key, make_pool, silent

ROUNDS = 20


def measured(work: Callable[[int], object]) -> float:
    start = time.perf_counter()
    for number in range(ROUNDS):
        work(number)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Sshd.make(Path(folder) / "server")
        server.start()
        pool = make_pool(server.inventory(), Path(folder) / "state")
        plain = fabric.Connection(
            "127.0.0.1", user="root", port=server.port,
            connect_kwargs={"key_filename": str(server.folder / "id"), "allow_agent": False,
                            "look_for_keys": False},
        )
        try:
            pool.prepare(("web1",), {})
            plain.open()
            reads = pool.host_reads("web1")
            results = {
                "fabric Connection.run": measured(lambda n: plain.run("true", hide=True)),
                "query": measured(lambda n: reads.query("true")),
                "job (at most once, on disk)": measured(lambda n: pool.perform(
                    RunCommand(host="web1", script="true"), key(f"b{n}"), silent
                )),
            }
        finally:
            plain.close()
            pool.close()
            server.stop()
    base = results["fabric Connection.run"]
    for name, seconds in results.items():
        print(f"{name:30} {seconds:7.3f} s   {base / seconds:6.1f} x fabric")


if __name__ == "__main__":
    main()
