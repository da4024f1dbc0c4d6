"""The dead man's switch on this machine: who watches, what happens when nobody does."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook.kinds._dead_mans_switch import arm, disarm, heartbeat, remove
from runbook.model.actions import RunCommand
from runbook.model.database import Database
from tests.transports.ssh_lab import until

EAST = Database(name="east", engine="postgres", host="east-db", port=5432)


@dataclass
class Machine:
    home: Path

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)} | env,
        )

    def do(self, command: RunCommand) -> subprocess.CompletedProcess[str]:
        return self.run(command.script, **command.env)

    def arm(self, thaw: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.do(arm(EAST, "run", 60, thaw, env))

    def beat(self, **env: str) -> str:
        return self.run(heartbeat(EAST, "run", 60, env).command, **env).stdout

    @property
    def spool(self) -> Path:
        return self.home / ".runbook-switch" / "run-east"

    def watchers(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.spool and (
                    b"watch" in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_switch_that_could_not_thaw_is_not_set(machine: Machine) -> None:
    refused = machine.arm('test "$LOGIN" = right || { echo no such login; false; }', LOGIN="wrong")
    assert refused.returncode == 1
    assert "the dead man's switch of east could not thaw it: no such login" in refused.stderr
    assert "Nothing is frozen" in refused.stderr
    assert not machine.spool.exists()


def test_a_sign_of_life_starts_a_watcher_that_is_gone(machine: Machine) -> None:
    thawed = machine.home / "thawed"
    # The login is the watcher's, and is nowhere on disk.
    thaw = f'[ "$LOGIN" = right ] && : >{thawed}'
    assert machine.arm(thaw, LOGIN="right").returncode == 0
    thawed.unlink()
    assert machine.beat(LOGIN="right") == ""
    [watcher] = machine.watchers()
    assert machine.beat(LOGIN="right") == ""
    os.kill(watcher, signal.SIGKILL)
    until(lambda: machine.watchers() == [], 5)
    told = machine.beat(LOGIN="right")
    assert told.startswith("the dead man's switch of east had nobody who watches")
    until(lambda: len(machine.watchers()) == 1, 5)
    assert machine.watchers() != [watcher]
    assert machine.beat(LOGIN="right") == ""
    # And then nobody gives one any more, for long.
    os.utime(machine.spool / "alive", (0, 0))
    until(thawed.exists, 5)
    # It fired; so nobody may promote another server now, and no sign of life starts it again.
    assert machine.do(disarm(EAST, "run")).returncode == 17
    until(lambda: machine.watchers() == [], 5)
    assert machine.beat(LOGIN="right") == ""
    assert machine.watchers() == []


def test_a_watcher_that_is_gone_in_the_middle_of_the_thaw_ends_it_later(machine: Machine) -> None:
    thawed = machine.home / "thawed"
    assert machine.arm(f": >{thawed}").returncode == 0
    [watcher] = machine.watchers()
    os.kill(watcher, signal.SIGKILL)
    until(lambda: machine.watchers() == [], 5)
    thawed.unlink()
    (machine.spool / "armed").rename(machine.spool / "fired")
    assert "started again" in machine.beat()
    until(thawed.exists, 5)


def test_a_switch_that_was_taken_away_is_not_started_again(machine: Machine) -> None:
    for away in (disarm(EAST, "run"), remove(EAST, "run")):
        assert machine.arm("true").returncode == 0
        assert machine.do(away).returncode == 0
        assert machine.beat() == ""
        until(lambda: machine.watchers() == [], 5)
        assert not machine.spool.exists()
