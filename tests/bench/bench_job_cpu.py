"""What an at-most-once job costs the host it runs on: processor time and processes started.

Run it: ``python -m tests.bench.bench_job_cpu``. The runner and ``job_prototype.sh``, the plainest
shell script that does the same, run the same jobs by turns on this machine, without a network in
between; the figures are a job's, user and system time of everything that was started for it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runbook.transports.ssh.protocol import Launch
from runbook.transports.ssh.session import ProcessWire, Session

JOBS, ROUNDS = 40, 5
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Cost:
    """A job's: milliseconds of processor time and of waiting, processes started (0: not known)."""

    cpu: float
    wall: float
    forks: float


def adopt_orphans() -> None:
    """Supervisors that outlive their runner become children of this process, so that their time
    is counted too (PR_SET_CHILD_SUBREAPER, prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def measured(jobs: int, work: Callable[[int], None], end: Callable[[], None]) -> Cost:
    """``end`` ends the shell that started them: then their time is known."""
    forks, start, cpu = _last_pid(), time.perf_counter(), _spent()
    for number in range(jobs):
        work(number)
    wall, started = time.perf_counter() - start, _last_pid() - forks
    end()
    _reap()
    return Cost((_spent() - cpu) * 1000 / jobs, wall * 1000 / jobs, started / jobs)


def ours(folder: Path, jobs: int) -> Cost:
    session = Session(ProcessWire(), run="bench", base=str(folder))

    def job(number: int) -> None:
        launch = Launch(job=f"j{number}", hash="h", script="true")
        reply = session.request(launch.request(0, session.mark(60), 60, (0, 0)), 60)
        assert (reply.status, reply.word) == ("exit", "0"), reply

    return measured(jobs, job, session.close)


def prototype(folder: Path, jobs: int) -> Cost:
    shell = subprocess.Popen(
        ["/bin/sh", str(Path(__file__).with_name("job_prototype.sh")), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )
    stdin, stdout = shell.stdin, shell.stdout
    assert stdin is not None and stdout is not None

    def job(number: int) -> None:
        stdin.write(f"j{number} true\n")
        answer = stdout.readline()
        assert answer.startswith(f"j{number} exit 0"), answer

    def end() -> None:
        stdin.close()
        shell.wait(20)
        stdout.close()

    return measured(jobs, job, end)


def compare(jobs: int = JOBS, rounds: int = ROUNDS) -> tuple[Cost, Cost]:
    """(ours, the prototype's): medians of rounds by turns. Starting the shell counts for both."""
    adopt_orphans()
    found: dict[str, list[Cost]] = {"ours": [], "prototype": []}
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        for number in range(rounds):
            found["ours"].append(ours(Path(folder, f"ours-{number}"), jobs))
            found["prototype"].append(prototype(Path(folder, f"prototype-{number}"), jobs))
    return _median(found["ours"]), _median(found["prototype"])


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(
        statistics.median(getattr(cost, name) for cost in costs)
        for name in ("cpu", "wall", "forks")
    ))


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _last_pid() -> int:
    """The kernel numbers processes one after the other, in a namespace of their own without
    gaps; elsewhere those of everybody else count too."""
    return int(Path("/proc/loadavg").read_text().split()[-1]) if os.getpid() < 100 else 0


def main() -> None:
    if "--inside" not in sys.argv and os.geteuid() == 0:
        # Alone in a pid namespace, processes can be counted.
        os.execvp("unshare", ["unshare", "--pid", "--mount", "--fork", "--mount-proc",
                              sys.executable, *sys.orig_argv[1:], "--inside"])
    runner, plain = compare()
    print(f"{'':12}{'CPU':>9}{'wall':>9}  processes")
    for name, cost in (("runner", runner), ("prototype", plain)):
        print(f"{name:12}{cost.cpu:6.2f} ms{cost.wall:6.1f} ms  {cost.forks or '-'}")
    print(f"runner / prototype: {runner.cpu / plain.cpu:.2f} of the CPU, "
          f"{runner.wall / plain.wall:.2f} of the time")


if __name__ == "__main__":
    main()
