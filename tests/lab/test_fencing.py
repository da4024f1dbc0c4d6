"""A controller that was paused, superseded, and woken: it must not do anything more.

    LAB_SEED=N     replays the pauses; LAB_PAUSES=N  how many
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runbook.errors import Errored, ExitCode, InDoubt
from runbook.model.actions import RunCommand
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.processes import wait_for
from tests.lab.remote import Pools, inventory
from tests.lab.stale import MARK
from tests.transports.ssh_lab import key, silent

pytestmark = marks

_ASKED = os.environ.get("LAB_SEED", "20090912")
SEED = random.SystemRandom().randrange(10**9) if _ASKED == "random" else int(_ASKED)
PAUSES = int(os.environ.get("LAB_PAUSES", "30"))
MOVES = max(3, PAUSES // 10)
"""Pauses of whole controllers with a runbook; the others are of a pool of connections alone."""
ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def stop(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    wait_for("it is stopped", lambda: state_of(process.pid) == "T")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_a_woken_controller_starts_nothing_on_a_fenced_host(
    lab: Lab, pools: Pools, tmp_path: Path
) -> None:
    """It is stopped at a random instant, another takes the run over with a higher epoch and
    works, it is woken: what it had begun before the fence may end, and nothing new begins."""
    print(f"\nLAB_SEED={SEED} LAB_PAUSES={PAUSES}")
    chance = random.Random(SEED)
    runs = [f"fence-{number}" for number in range(PAUSES)]
    hosts = tmp_path / "hosts.json"
    hosts.write_text(inventory(lab, tmp_path / "config").model_dump_json())
    log = tmp_path / "log"
    with log.open("wb") as output:
        old = lab.start("control", sys.executable, "-m", "tests.lab.stale", str(hosts),
                        str(tmp_path / "old"), ",".join(runs), "east-web", env=ENV, output=output)
    before, stale, in_flight = 0, 0, 0
    try:
        for run in runs:
            wait_for(f"{run} works", lambda run=run: bool(effects(lab, run)), 20)  # type: ignore[misc]
            threading.Event().wait(chance.uniform(0, 0.15))
            stop(old)
            newer = pools(run=run, epoch=2)
            newer.prepare(("east-web",), {})  # fences
            fenced = effects(lab, run)
            action = RunCommand(host="east-web", script=MARK.replace("RUN", run))
            for number in range(2):
                newer.perform(action, key(f"new-{number}"), silent)
            os.kill(old.pid, signal.SIGCONT)
            wait_for(f"the old controller of {run} ends",
                     lambda run=run: f"{run} " in log.read_text(), 20)  # type: ignore[misc]
            after = effects(lab, run)
            before += fenced.count("1")
            # One that had begun when the fence came may leave its line a moment later.
            late = after.count("1") - fenced.count("1")
            in_flight += min(late, 1)
            stale += max(0, late - 1)
            assert after.count("2") == 2
            newer.tidy()
            newer.close()
        assert old.wait(20) == 0, log.read_text()
    finally:
        if old.poll() is None:
            old.kill()
            old.wait()
    ends = re.findall(r"^fence-\d+ (\w+): (.*)$", log.read_text(), re.M)
    print(f"{PAUSES} pauses: {before} effects before the fence, {in_flight} under way at the "
          f"fence, {stale} stale")
    assert [kind for kind, _ in ends] == ["Fenced"] * PAUSES, ends
    assert stale == 0


def test_a_run_that_another_has_ended_cannot_be_begun_again(lab: Lab, pools: Pools) -> None:
    """The newer controller has tidied up, so the host no longer knows of its epoch, and the older
    one has to connect anew: it sees that this is not the spool it had opened."""
    older, newer = pools(run="ended", epoch=1), pools(run="ended", epoch=2)
    older.prepare(("west-web",), {})
    newer.prepare(("west-web",), {})
    newer.tidy()
    lab["west-web"].run("for pid in $(pgrep -f '[s]shd: root'); do kill -9 $pid; done")
    action = RunCommand(host="west-web", script="echo stale >/run/stale")
    with pytest.raises((Errored, InDoubt), match="removed or replaced"):
        older.perform(action, key("stale"), silent)
    assert lab["west-web"].run("test -e /run/stale", check=False).returncode == 1


def effects(lab: Lab, run: str) -> list[str]:
    """Epochs of the commands that have run, in order."""
    # Read from the host's own file, through its process 1.
    path = Path(f"/proc/{lab['east-web'].init}/root/run/effects")
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [line[1] for line in lines if line[0] == run]


RUNBOOK = """\
runbook: fenced
title: Many small steps on two hosts
inventory: inventory.yml
policy: {on_failure: hold}
steps:
"""
STEP = """\
  - id: step-%02d
    kind: shell
    hosts: %s
    with:
      command: |
        read -r boot hash epoch <"${0%%/*}/started"
        echo "%s $epoch begin-%02d" >>/run/effects
        sleep %s
        echo "%s $epoch end-%02d" >>/run/effects
    undo: "true"
"""
STEPS = 10


class Run:
    """A real run of many small steps, driven by real controllers at the desk ``control``."""

    def __init__(self, lab: Lab, folder: Path, name: str, pause: float = 0.1) -> None:
        self.lab, self.folder, self.name = lab, folder, name
        self.state = folder / "state"
        self.env = {**ENV, "HOME": str(folder), "RUNBOOK_USER": "operator", "COLUMNS": "200"}
        folder.mkdir(parents=True)
        (folder / "ssh_config").write_text(
            "Host *\n  User root\n  UserKnownHostsFile none\n"
            f"  IdentityFile {lab.login_key}\n  IdentityAgent none\n"
        )
        hosts = "".join(f"  {host}: {{address: {lab[host].address}}}\n"
                        for host in ("east-web", "west-web"))
        (folder / "inventory.yml").write_text(
            f"ssh_config: {folder}/ssh_config\nknown_hosts: [{lab.known_hosts}]\nhosts:\n{hosts}"
        )
        (folder / "runbook.yml").write_text(RUNBOOK + "".join(
            STEP % (number, ("east-web", "west-web")[number % 2], name, number, pause, name,
                    number)
            for number in range(STEPS)
        ))

    @property
    def run_id(self) -> str:
        (only,) = (self.state / "runs").iterdir()
        return only.name

    def start(self) -> subprocess.Popen[bytes]:
        return self._control("tests.lab.controller", str(self.state),
                             str(self.folder / "runbook.yml"))

    def resume(self, state: Path) -> subprocess.Popen[bytes]:
        return self._control("runbook", "resume", self.run_id, "--plain", "--state", str(state))

    def _control(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return self.lab.start("control", sys.executable, "-m", *words, env=self.env,
                                  output=log)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def effects(self) -> list[tuple[str, str]]:
        """(epoch, what) of all hosts; in order on each."""
        found = []
        for host in ("east-web", "west-web"):
            path = Path(f"/proc/{self.lab[host].init}/root/run/effects")
            if path.exists():
                rows = [line.split() for line in path.read_text().splitlines()]
                found += [(row[1], row[2]) for row in rows if row[0] == self.name]
        return found


def test_a_woken_controller_of_a_whole_run_does_nothing_more(lab: Lab, tmp_path: Path) -> None:
    """Its desk seemed dead, and the run was resumed from a copy of the state folder elsewhere."""
    print(f"\nLAB_SEED={SEED} LAB_PAUSES={PAUSES}, of whole runs {MOVES}")
    chance = random.Random(SEED + 1)
    twice = 0
    for number in range(MOVES):
        run = Run(lab, tmp_path / f"run-{number}", f"whole-{number}")
        old = run.start()
        newer = None
        try:
            wait_for("a step has run", lambda run=run: bool(run.effects()), 30)  # type: ignore[misc]
            threading.Event().wait(chance.uniform(0, 1))
            stop(old)
            shutil.copytree(run.state, run.folder / "copy")
            newer = run.resume(run.folder / "copy")
            if chance.random() < 0.5:
                # It is woken while the other one works; or when that has ended and tidied up, and
                # its connections have been lost.
                wait_for("the newer one works",
                         lambda run=run: any(e == "2" for e, _ in run.effects()), 30)  # type: ignore[misc]
            else:
                assert newer.wait(60) == ExitCode.OK, run.log.read_text()
                for host in ("east-web", "west-web"):
                    lab[host].run("for p in $(pgrep -f '[s]shd: root'); do kill -9 $p; done")
            seen = sum(e == "1" and what.startswith("begin") for e, what in run.effects())
            os.kill(old.pid, signal.SIGCONT)
            code = old.wait(60)
            assert newer.wait(60) == ExitCode.OK, run.log.read_text()
        finally:
            for process in filter(None, (old, newer)):
                if process.poll() is None:
                    process.kill()
                    process.wait()
        began = [what for _, what in run.effects() if what.startswith("begin")]
        stale = sum(e == "1" and what.startswith("begin") for e, what in run.effects()) - seen
        assert stale == 0, run.log.read_text()
        assert code != ExitCode.OK, "it cannot think that it has done it all"
        # Under way when the state was copied: either one may have put it on record.
        twice += len(began) - len(set(began))
        assert set(began) == {f"begin-{n:02d}" for n in range(STEPS)}
    assert twice == 0
    print(f"{MOVES} whole runs: 0 stale effects, {twice} commands twice")


def test_a_stopped_controller_is_named_with_the_way_out(lab: Lab, tmp_path: Path) -> None:
    """It holds the run's lock and answers nobody: who, which process, and what to do; and after
    that the run goes on with what was under way."""
    run = Run(lab, tmp_path / "held", "held", pause=0.6)
    old = run.start()
    try:
        wait_for("a step is under way", lambda: bool(run.effects()), 30)
        stop(old)
        refused = run.resume(run.state)
        assert refused.wait(30) == ExitCode.HELD_BY_OTHER
        told = " ".join(run.log.read_text().split())
        assert f"(process {old.pid}), which is stopped" in told
        way_out = re.search(r"`kill -KILL (\d+)`, then `(runbook resume \S+)`", told)
        assert way_out, told
        assert way_out.groups() == (str(old.pid), f"runbook resume {run.run_id}")
        os.kill(int(way_out.group(1)), signal.SIGKILL)
        old.wait(10)
        again = run.resume(run.state)
        assert again.wait(60) == ExitCode.OK, run.log.read_text()
    finally:
        if old.poll() is None:
            old.kill()
            old.wait()
    effects = run.effects()
    assert sorted(what for _, what in effects) == sorted(
        f"{word}-{n:02d}" for n in range(STEPS) for word in ("begin", "end")
    ), "every command ran once, and to its end"
    assert {epoch for epoch, _ in effects} == {"1", "2"}
