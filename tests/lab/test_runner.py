"""Commands on hosts that are cut off, restarted, silent, raced for, and full."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt
from runbook.model.actions import ActionResult, RunCommand
from runbook.model.inventory import Host, Inventory
from runbook.transports.ssh.jobs import Reconnect
from runbook.transports.ssh.pool import SshPool
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import marks
from tests.lab.network import inside
from tests.transports.ssh_lab import HASTY, PATIENT, key, make_pool, silent, until

pytestmark = marks

Pools = Callable[..., SshPool]


@pytest.fixture
def pools(lab: Lab, tmp_path: Path) -> Iterator[Pools]:
    """Makes controllers that stand in the control network."""
    config = tmp_path / "ssh_config"
    config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
    inventory = Inventory(
        hosts=tuple(Host(name=name, address=address, user="root", identity=str(lab.login_key))
                    for name, address in MACHINES.items()),
        known_hosts=(str(lab.known_hosts),), ssh_config=str(config),
    )
    made: list[SshPool] = []

    def make(reconnect: Reconnect = PATIENT, run: str = "move-1") -> SshPool:
        place = tmp_path / f"state-{len(made)}"
        made.append(make_pool(inventory, place, run=run, reconnect=reconnect))
        return made[-1]

    with inside(lab.network.namespace("control")):
        yield make
        for pool in made:
            pool.close()


class Watched:
    """A command under way in a thread of its own, and the lines it has said."""

    def __init__(self, pool: SshPool, node: str, script: str, host: str = "east-web") -> None:
        self.action = RunCommand(host=host, script=script, ok_codes=(0, 7))
        self.key = key(node)
        self.lines: list[str] = []
        self._threads = ThreadPoolExecutor(1)
        self._task = self._threads.submit(
            pool.perform, self.action, self.key, self.lines.append
        )
        self._threads.shutdown(wait=False)

    def said(self, line: str) -> None:
        until(lambda: line in self.lines or self._task.done())
        assert line in self.lines, self._task.exception() or self._task.result()

    def result(self, patience: float = 60) -> ActionResult:
        return self._task.result(patience)


LEDGER = "echo ran >>/root/ledger; "


def ledger(lab: Lab, host: str = "east-web") -> int:
    return lab[host].run("cat /root/ledger 2>/dev/null; rm -f /root/ledger").stdout.count("ran")


def test_a_link_cut_and_healed_costs_nothing(lab: Lab, pools: Pools) -> None:
    job = Watched(pools(), "cut", LEDGER + "for i in $(seq 1 60); do echo line $i; sleep 0.05; "
                  "done; exit 7")
    job.said("line 10")
    lab.cut_link("east-web")
    threading.Event().wait(4)  # the command ends meanwhile
    lab.mend_link("east-web")
    done = job.result()
    assert (done.ok, done.data["exit_code"]) == (True, 7)
    assert done.data["stdout"].splitlines() == [f"line {i}" for i in range(1, 61)]
    assert job.lines == done.data["stdout"].splitlines(), "nothing twice, nothing missing"
    assert ledger(lab) == 1


def test_a_new_connection_finds_the_old_command(lab: Lab, pools: Pools) -> None:
    """sshd is ended under the open connection; the command goes on."""
    job = Watched(pools(), "sshd", LEDGER + "for i in $(seq 1 30); do echo line $i; sleep 0.05; "
                  "done; exit 7")
    job.said("line 5")
    lab["east-web"].run("for pid in $(pgrep -f '[s]shd: root'); do kill -9 $pid; done")
    assert job.result().data["stdout"].count("line") == 30
    assert ledger(lab) == 1


@pytest.mark.parametrize("how", ["reboot", "power"])
def test_a_restart_in_the_middle_is_never_a_success_and_never_a_second_run(
    lab: Lab, pools: Pools, how: str
) -> None:
    pool = pools()
    job = Watched(pool, f"restart-{how}", LEDGER + "echo begun; sleep 30; echo ended")
    job.said("begun")
    if how == "reboot":
        lab.reboot("east-web")
    else:
        lab.power_cut("east-web")
        lab.power_on("east-web")
    with pytest.raises(InDoubt, match="restarted while the command ran"):
        job.result()
    found = pools().resolve(job.action, job.key)
    assert found.outcome == "unknown"
    assert "restarted" in found.detail
    with pytest.raises(InDoubt):
        pools().perform(job.action, job.key, silent)
    assert ledger(lab) == 1


@pytest.mark.slow
def test_silence_is_noticed_and_the_truth_found_later(lab: Lab, pools: Pools) -> None:
    pool = pools(Reconnect(patience=0))
    job = Watched(pool, "silence", LEDGER + "echo begun; sleep 30; echo ended; exit 7")
    job.said("begun")
    lab.partition("control", "east")
    start = time.monotonic()
    with pytest.raises(InDoubt, match="may be running, or have ended"):
        job.result(90)
    took = time.monotonic() - start
    print(f"noticed after {took:.1f} s")
    assert took < 32
    assert pool.resolve(job.action, job.key).outcome == "unknown", "nobody can be asked yet"
    lab.heal()
    found = pools().resolve(job.action, job.key)
    assert found.outcome in {"running", "done"}
    done = pools().perform(job.action, job.key, silent)
    assert (done.data["exit_code"], done.data["stdout"]) == (7, "begun\nended\n")
    assert pools().resolve(job.action, job.key).outcome == "done"
    assert ledger(lab) == 1


def test_a_host_that_was_silent_from_the_start_was_not_touched(lab: Lab, pools: Pools) -> None:
    lab.partition("control", "east")
    pool = pools(HASTY)
    action = RunCommand(host="east-web", script=LEDGER)
    with pytest.raises(Errored, match="nothing was changed there"):
        pool.perform(action, key("unreached"), silent)
    lab.heal()
    assert pools().resolve(action, key("unreached")).outcome == "not_done"
    assert ledger(lab) == 0


def test_two_controllers_racing_for_one_key(lab: Lab, pools: Pools) -> None:
    both, rounds = (pools(), pools()), 10
    for pool in both:
        pool.prepare(("east-web",), {})
    action = RunCommand(host="east-web", script=LEDGER + "sleep 0.05; echo once; exit 7",
                        ok_codes=(7,))
    for number in range(rounds):
        barrier = threading.Barrier(2)

        def run(
            pool: SshPool, number: int = number, barrier: threading.Barrier = barrier
        ) -> ActionResult:
            barrier.wait(5)
            return pool.perform(action, key(f"race-{number}"), silent)

        with ThreadPoolExecutor(2) as threads:
            for done in threads.map(run, both):
                assert (done.data["exit_code"], done.data["stdout"]) == (7, "once\n")
    assert ledger(lab) == rounds


def test_at_a_distance(lab: Lab, pools: Pools) -> None:
    """100 ms each way and one packet in twenty lost: slower, and nothing else."""
    lab.delay("east", 100)
    lab.one_way_loss("control", "east", 5)
    lab.one_way_loss("east", "control", 5)
    done = pools().perform(
        RunCommand(host="east-web", script="seq 1 50000"), key("far"), silent
    )
    assert Path(done.data["stdout_path"]).read_text().split() == [str(i) for i in range(1, 50001)]


def test_a_wrong_clock_on_the_host(lab: Lab, pools: Pools) -> None:
    lab.wrong_clock("west-web", "-400d")
    done = pools().perform(
        RunCommand(host="west-web", script="date +%Y; exit 7", ok_codes=(7,), timeout=5),
        key("clock@west-web"), silent,
    )
    lab.wrong_clock("west-web", "")
    assert int(done.data["stdout"]) < time.localtime().tm_year
    assert done.ok


def test_a_full_disk_before_it_begins(lab: Lab, pools: Pools) -> None:
    pool = pools()
    pool.prepare(("east-web",), {})
    lab.fill_disk("east-web")
    try:
        action = RunCommand(host="east-web", script="echo ran >/run/ran")
        with pytest.raises(Errored, match=r"disk|spool") as told:
            pool.perform(action, key("full"), silent)
        assert "nothing was" in told.value.message
    finally:
        lab.free_disk("east-web")
    assert lab["east-web"].run("test -e /run/ran", check=False).returncode == 1
    assert pool.perform(action, key("full"), silent).ok, "the same key may be tried again"


def test_the_exit_code_survives_a_disk_that_fills_up(lab: Lab, pools: Pools) -> None:
    pool = pools()
    job = Watched(pool, "filling", "echo begun; until [ -e /run/go ]; do sleep 0.05; done; "
                  "head -c 200000 /dev/zero; exit 7")
    job.said("begun")
    lab.fill_disk("east-web")
    try:
        lab["east-web"].run("true >/run/go")
        done = job.result()
        assert done.data["exit_code"] == 7
        assert "No space left" in done.data["stderr"] or len(done.data["stdout"]) < 200000
        fresh = pools().resolve(job.action, job.key)
    finally:
        lab.free_disk("east-web")
    assert fresh.outcome == "done"
    assert fresh.result is not None
    assert fresh.result.data["exit_code"] == 7
