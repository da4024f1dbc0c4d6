"""Queries of one runner: in copies of its shell, ended in time by one guard, each for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.transports.ssh.protocol import Reply, plain_request
from runbook.transports.ssh.session import ProcessWire, Session
from tests.transports.ssh_lab import until
from tests.transports.test_runner import SHELLS

GUARDED = [name for name in SHELLS if name != "ksh"]
"""Shells whose copy is a process of its own; in the other every query has a timeout(1)."""
ENDED = {"124", "137"}


class Runner:
    def __init__(self, name: str, base: Path) -> None:
        self.wire = ProcessWire(SHELLS[name])
        self.session = Session(
            self.wire, run="r1", base=str(base), shell=" ".join(SHELLS[name])
        )

    def query(self, script: str, *, limit: int = 30, exports: str = "") -> Reply:
        request = plain_request(
            script, limit=limit, user="", cwd="", password="", exports=exports
        )
        return self.session.request(request, 30)

    def group(self) -> dict[int, str]:
        """What runs in the runner's process group besides it: ids and names."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = path.read_text().rpartition(") ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            pid, _, name = head.partition(" (")
            state, _, group = rest.split()[:3]
            if int(group) == self.wire.pid and int(pid) != self.wire.pid and state != "Z":
                found[int(pid)] = name
        return found


@pytest.fixture(params=list(SHELLS))
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runner]:
    if not Path(SHELLS[request.param][0]).exists():
        pytest.skip(f"{request.param} is not installed")
    made = Runner(request.param, tmp_path / "spool")
    yield made
    made.session.close()


guarded = pytest.mark.parametrize("runner", GUARDED, indirect=True)


@guarded
def test_one_guard_looks_after_many_queries(runner: Runner) -> None:
    assert runner.query("true").word == "0"
    until(lambda: len(runner.group()) == 2)
    first = runner.group()
    for _ in range(5):
        assert runner.query("exit 3").word == "3"
    assert runner.group() == first
    assert len(first) == 2, "the guard and its sleep, the same all the time"


def test_a_query_that_does_not_end_goes_with_all_it_started(runner: Runner) -> None:
    runner.query("true", limit=60)
    start = time.monotonic()
    reply = runner.query("sleep 61 & sleep 62 | cat", limit=1)
    assert reply.word in ENDED
    assert 1 <= time.monotonic() - start < 10
    until(lambda: "cat" not in runner.group().values())
    until(lambda: list(runner.group().values()).count("sleep") <= 1)  # The guard's alone.
    assert runner.query("echo next").out == b"next\n", "the runner itself was spared"


def test_a_query_that_ignores_term_is_killed(runner: Runner) -> None:
    assert runner.query("trap '' TERM; sleep 63; sleep 64", limit=1).word in ENDED
    assert runner.query("echo next") == Reply("done", "0", b"next\n")


@guarded
def test_a_query_that_was_ended_is_no_success_whatever_it_says(runner: Runner) -> None:
    reply = runner.query("trap 'echo part; exit 0' TERM; sleep 65 & wait", limit=1)
    assert (reply.word, reply.out) == ("124", b"part\n")


def test_a_slow_query_under_an_old_guard_has_its_whole_time(runner: Runner) -> None:
    runner.query("true", limit=1)
    assert runner.query("sleep 3; echo whole", limit=20) == Reply("done", "0", b"whole\n")


@guarded
def test_no_process_is_left_when_the_runner_ends(runner: Runner) -> None:
    runner.query("true")
    assert runner.group()
    runner.session.close()
    until(lambda: not runner.group())


def test_a_query_sees_nothing_of_others(runner: Runner) -> None:
    secret = "correct-horse"
    assert runner.query("echo $PW", exports=f"export PW={secret}\n").out.decode().strip() == secret
    assert secret.encode() not in runner.query("set; env").out
    unset = runner.query("unset PW; set", exports=f"export PW={secret}\n").out
    assert b"HOME" in unset
    assert secret.encode() not in unset
    mask = runner.query("umask").out.decode()
    runner.query("A=changed; cd /; umask 0; set -- a b c; set -f; exec 2>/dev/null")
    reply = runner.query('echo "$A|$#|$*"; umask; echo /proc/sel[f]; echo oops >&2')
    assert reply == Reply("done", "0", f"|0|\n{mask}/proc/self\n".encode(), b"oops\n")


@pytest.mark.parametrize(("script", "code"), [("return 3", {"3"}), ("if", {"1", "2", "3"})])
def test_how_a_query_may_end(runner: Runner, script: str, code: set[str]) -> None:
    assert runner.query(f"echo one\n{script}\necho two").word in code
    assert runner.query("echo next").out == b"next\n"
