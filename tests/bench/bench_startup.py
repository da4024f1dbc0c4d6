"""``runbook --help`` against ``python -c 'import typer'``: whole processes, medians, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    ours = [sys.executable, "-m", "runbook", "--help"]
    other = [sys.executable, "-c", "import typer"]
    wall(ours)
    wall(other)
    pairs = [(wall(ours), wall(other)) for _ in range(RUNS)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"runbook --help: {ratio:.2f} x `import typer` (bound: 2), median of {RUNS} pairs")


if __name__ == "__main__":
    main()
