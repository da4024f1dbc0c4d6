"""A reader of the output that goes away, through a real pipe."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from runbook.model.state import NodeState, RunPhase
from tests.cli.running import command, environment
from tests.cli.test_run import LONG, Place, place  # noqa: F401 - a fixture

AFTER = """
  - id: after
    kind: shell
    with: {command: echo after >> HERE/ledger}
"""


class Piped:
    """A command whose standard output and error go to a pipe that this process reads."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._reading, writing = os.pipe()
        self.child = subprocess.Popen(
            command(*arguments), cwd=directory, env=environment(directory), text=True,
            stdout=writing, stderr=writing, stdin=subprocess.DEVNULL,
        )
        os.close(writing)

    def first_bytes(self) -> bytes:
        return os.read(self._reading, 10)

    def close(self) -> None:
        """As ``head`` does when it has seen enough, and a ``tee`` that Ctrl-C ended."""
        os.close(self._reading)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_nobody_reads_any_more_stops_at_the_next_checkpoint(
    place: Place, tmp_path: Path, number: signal.Signals,  # noqa: F811
) -> None:
    place.write(LONG + AFTER)
    piped = Piped(tmp_path, "run", "book.yml", "--yes")
    place.started.append(piped.child)
    place.until((tmp_path / "ledger").exists, piped.child)
    piped.close()
    piped.child.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        piped.child.wait(0.5)  # The step under way is finished first.
    (tmp_path / "go").touch()
    assert piped.child.wait(30) == 24
    assert place.state.nodes["long"].state is NodeState.VERIFIED
    assert place.state.nodes["after"].state is NodeState.PENDING


def test_a_second_ctrl_c_detaches_where_nobody_reads(
    place: Place, tmp_path: Path,  # noqa: F811
) -> None:
    place.write(LONG)
    piped = Piped(tmp_path, "run", "book.yml", "--yes")
    place.started.append(piped.child)
    place.until((tmp_path / "ledger").exists, piped.child)
    piped.close()
    piped.child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        piped.child.wait(0.3)
    piped.child.send_signal(signal.SIGINT)
    assert piped.child.wait(10) == 24
    assert place.state.nodes["long"].state is NodeState.STARTED
    (tmp_path / "go").touch()


def test_a_reader_that_has_seen_enough_does_not_end_a_run(
    place: Place, tmp_path: Path,  # noqa: F811
) -> None:
    place.write(LONG + AFTER)
    piped = Piped(tmp_path, "run", "book.yml", "--yes")
    place.started.append(piped.child)
    assert piped.first_bytes()
    piped.close()
    place.until((tmp_path / "ledger").exists, piped.child)
    (tmp_path / "go").touch()
    assert piped.child.wait(30) == 0
    assert place.state.phase is RunPhase.DONE
    assert (tmp_path / "ledger").read_text() == "begun\nafter\n"


@pytest.mark.parametrize("asked", [("kinds",), ("explain", "shell"), ("schema",), ("--help",)])
def test_a_command_that_only_shows_ends_quietly_with_its_reader(
    tmp_path: Path, asked: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            command(*asked), cwd=tmp_path, env=environment(tmp_path), text=True, stdout=gone,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False, timeout=60,
        )
    assert (done.returncode, done.stderr) == (141, "")
