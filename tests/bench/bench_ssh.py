"""Commands on many hosts: the runner against other tools, side by side in one run.

``python -m tests.bench.bench_ssh --hosts 10,50,200`` prints tables as Markdown. Hosts are loopback
addresses with a real sshd each (root, Linux); client and hosts share this machine's processors.
All rows of a column are measured in turn, round by round, so that what else the machine does hits
all alike; figures are medians in seconds, ratios medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from runbook.model.actions import RunCommand
from tests.bench.farm import Farm, unwind_on_signals
from tests.bench.ssh_rows import (
    WAYS,
    Ansible,
    Clush,
    Fabric,
    LibSsh2,
    LongLivedShell,
    OurJobs,
    Ours,
    Pyinfra,
    Way,
)
from tests.transports.ssh_lab import key, silent

ROW = 20
FAR_HOSTS, ROUND_TRIP = (1, 25, 50), 0.020
_SHARE = 12.0
"""Seconds of one column after which a row is not measured again."""

Times = dict[str, list[float]]


class Bench:
    """``seen[column][row]`` are the seconds of each round."""

    def __init__(self, folder: Path, rounds: int, limit: float) -> None:
        self.folder = folder
        self.rounds = rounds
        self.end = time.monotonic() + limit
        self.seen: dict[str, Times] = defaultdict(lambda: defaultdict(list))
        self.failed: dict[str, str] = {}
        self._number = 0

    def hosts(self, counts: list[int], *, quick: bool) -> None:
        """Cold and warm, without distance."""
        for count in counts:
            with Farm(self._place(), count) as farm:
                ways = [
                    way for way in WAYS
                    if not way.missing() and way not in self.failed
                    and (not quick or count <= way.most)
                ]
                self._cold_and_warm(farm, count, ways)

    def far(self) -> float:
        """Twenty in a row at a distance. Answers the round trip in seconds, as measured."""
        with Farm(self._place(), max(FAR_HOSTS), far=ROUND_TRIP) as farm, farm.there():
            ways = [LongLivedShell, Ours, OurJobs, LibSsh2, Fabric]
            trips = [_round_trip(farm) for _ in range(21)]
            for count in FAR_HOSTS:
                with ExitStack() as stack:
                    opened = [self._opened(stack, farm, count, way) for way in ways
                              if not way.missing()]
                    self._measure(_far(count),
                                  [(way, partial(way.each, ROW)) for way in opened if way])
        return statistics.median(trips)

    def output(self) -> None:
        """Output of one command: ours to 100 MB, fabric's ``run`` to 8 MB."""
        with Farm(self._place(), 1) as farm, ExitStack() as stack:
            ours, fabric = OurJobs(farm, 1, self._place()), Fabric(farm, 1, self._place())
            for way in (ours, fabric):
                stack.callback(way.close)
                way.open()
            for number in range(min(self.rounds, 3)):
                for size in (10, 50, 100):
                    self._time(f"{size} MB", OurJobs.title, partial(
                        ours.pool.perform, RunCommand(host="h0", script=_printing(size)),
                        key(f"size{size}-{number}"), silent,
                    ))
            for size in (4, 8):
                self._time(f"{size} MB", Fabric.title, partial(
                    fabric.connections[0].run, _printing(size), hide=True, in_stream=False
                ))

    def ratio(self, column: str, row: type[Way], base: type[Way]) -> float | None:
        times, others = self.seen[column][row.title], self.seen[column][base.title]
        pairs = [a / b for a, b in zip(times, others, strict=False)]
        return statistics.median(pairs) if pairs else None

    # -- inside --------------------------------------------------------------------------------

    def _cold_and_warm(self, farm: Farm, count: int, ways: list[type[Way]]) -> None:
        cold = f"cold: connect and `true`, {count} hosts"
        for _ in range(self.rounds - 1):
            for way in ways:
                with ExitStack() as stack:
                    self._opened(stack, farm, count, way, cold)
        with ExitStack() as stack:
            opened = [self._opened(stack, farm, count, way, cold) for way in ways]
            warm = [way for way in opened if way is not None]
            self._measure(f"one more, {count} warm hosts",
                          [(way, partial(way.each, 1)) for way in warm])
            self._measure(f"{ROW} in a row, {count} warm hosts",
                          [(way, partial(way.each, ROW)) for way in warm])

    def _opened(
        self, stack: ExitStack, farm: Farm, count: int, kind: type[Way], column: str | None = None
    ) -> Way | None:
        """Opened, and closed with the stack; None where that failed or is not worth it again."""
        spent = self.seen[column][kind.title] if column else []
        if kind.title in self.failed or time.monotonic() > self.end:
            return None
        if column and sum(spent) > _SHARE and len(spent) < self.rounds - 1:
            return None
        way = kind(farm, count, self._place())
        stack.callback(way.close)
        try:
            if column:
                self._time(column, kind.title, way.open)
            else:
                way.open()
        except Exception as fault:  # noqa: BLE001 - another tool's, and its row says so
            self.failed[kind.title] = f"{type(fault).__name__}: {str(fault)[:200]}"
            return None
        return way

    def _measure(self, column: str, works: list[tuple[Way, Callable[[], None]]]) -> None:
        for _ in range(self.rounds):
            for way, work in works:
                if time.monotonic() < self.end and sum(self.seen[column][way.title]) < _SHARE:
                    self._time(column, way.title, work)

    def _time(self, column: str, row: str, work: Callable[[], object]) -> None:
        # What the row before has left behind, and the other tools' modules, are not this one's
        # to collect.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        start = time.perf_counter()
        work()
        self.seen[column][row].append(time.perf_counter() - start)

    def _place(self) -> Path:
        self._number += 1
        place = self.folder / str(self._number)
        place.mkdir()
        return place


def _far(count: int) -> str:
    return f"{ROW} in a row, {count} hosts, {ROUND_TRIP * 1000:.0f} ms"


def _round_trip(farm: Farm) -> float:
    """A TCP connection is there after one round trip."""
    start = time.perf_counter()
    socket.create_connection((farm.addresses[0], farm.port), timeout=10).close()
    return time.perf_counter() - start


def _printing(megabytes: int) -> str:
    line = "0123456789" * 8
    return f"yes {line} | head -c {megabytes * 1_000_000}"


def _table(bench: Bench, columns: list[str]) -> None:
    rows = [way.title for way in WAYS]
    print("| seconds, median | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        cells = []
        for column in columns:
            times = bench.seen[column].get(row, [])
            cells.append(f"{statistics.median(times):.2f}" if times else "–")
        if any(cell != "–" for cell in cells):
            print(f"| {row} | " + " | ".join(cells) + " |")
    print()


def _bounds(bench: Bench, trip: float | None, counts: list[int]) -> None:
    def say(text: str, value: float | None, bound: float, *, least: bool = False) -> None:
        if value is None:
            return
        held = value >= bound if least else value <= bound
        word = "at least" if least else "at most"
        print(f"- {text}: {value:.2f} ({word} {bound:g}: {'holds' if held else 'MISSED'})")

    warm, cold = f"{ROW} in a row, {{}} warm hosts", "cold: connect and `true`, {} hosts"
    for count in counts:
        column = warm.format(count)
        say(f"query against a long-lived shell, {column}",
            bench.ratio(column, Ours, LongLivedShell), 1.3)
        say(f"query, how many times faster than Ansible `raw`, {column}",
            bench.ratio(column, Ansible, Ours), 10, least=True)
        say(f"at-most-once job, how many times faster than Ansible `raw`, {column}",
            bench.ratio(column, Ansible, OurJobs), 1, least=True)
        say(f"cold against libssh2, {count} hosts",
            bench.ratio(cold.format(count), Ours, LibSsh2), 1.4)
    for count in FAR_HOSTS if trip else ():
        for way, bound in ((LongLivedShell, 1.2), (Ours, 1.2), (OurJobs, 2.0)):
            times = bench.seen[_far(count)][way.title]
            # Fifty hosts that put jobs on record at once have one disk and two processors here.
            if trip and times and not (way is OurJobs and count > 1):
                say(f"{way.title}, round trips (of {trip * 1000:.1f} ms) a command, {count} hosts",
                    statistics.median(times) / ROW / trip, bound)
    ours = [bench.seen[f"{size} MB"][OurJobs.title] for size in (10, 100)]
    if all(ours):
        say("100 MB of output against ten times 10 MB",
            statistics.median(ours[1]) / statistics.median(ours[0]) / 10, 1.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", default="10,50", help="numbers of hosts (default 10,50)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=240, help="seconds in all (default 240)")
    parser.add_argument("--all", action="store_true", help="slow tools on many hosts, too")
    options = parser.parse_args()
    counts = [int(word) for word in options.hosts.split(",")]
    if os.geteuid() != 0:
        print("SSH benchmarks skipped: they need root (an sshd for each host)")
        return
    unwind_on_signals(signal.SIGALRM)
    signal.alarm(round(options.limit) + 120)
    for way in (Fabric, LibSsh2, LongLivedShell, Ansible, Clush, Pyinfra):
        lacking = way.missing()
        if lacking:
            print(f"skipped: {way.title} ({lacking} not installed)")
    load = os.getloadavg()[0]
    trip = None
    with tempfile.TemporaryDirectory(prefix="bench-ssh") as name:
        bench = Bench(Path(name), options.rounds, options.limit)
        bench.output()
        if Path("/dev/net/tun").exists():
            trip = bench.far()
        bench.hosts(counts, quick=not options.all)
    print(f"{os.cpu_count()} processors for client and hosts together, load {load:.1f} before and "
          f"{os.getloadavg()[0]:.1f} after, Python {sys.version.split()[0]}, "
          f"{options.rounds} rounds\n")
    for count in counts:
        _table(bench, [column for column in bench.seen if f" {count} " in f"{column} "
                       and " ms" not in column])
    _table(bench, [column for column in bench.seen if column.endswith(" ms")])
    _table(bench, sorted((c for c in bench.seen if c.endswith(" MB")), key=_size))
    _bounds(bench, trip, counts)
    for row, why in bench.failed.items():
        print(f"- failed: {row}: {why}")


def _size(column: str) -> int:
    return int(column.split(maxsplit=1)[0])


if __name__ == "__main__":
    main()
