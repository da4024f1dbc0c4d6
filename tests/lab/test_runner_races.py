"""Controllers that launch the same at the same instant, and what they leave on the hosts."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runbook.model.actions import ActionResult, RunCommand
from runbook.transports.ssh.pool import SshPool
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.processes import wait_for
from tests.lab.remote import LEDGER, Pools, Watched, ledger, ours, wait_quiet
from tests.transports.ssh_lab import key, silent

pytestmark = marks

KEYS, LAUNCHERS = 50, 6


def test_racing_launchers_of_one_key_make_one_run(lab: Lab, pools: Pools) -> None:
    """50 keys, each launched by 6 controllers with a connection of their own at one instant."""
    racers = [pools() for _ in range(LAUNCHERS)]
    for pool in racers:
        pool.prepare(("east-web",), {})
    action = RunCommand(
        host="east-web", script=f"{LEDGER}echo $$; exit 7", ok_codes=(7,)
    )
    with ThreadPoolExecutor(LAUNCHERS) as threads:
        for number in range(KEYS):
            barrier = threading.Barrier(LAUNCHERS)

            def run(
                pool: SshPool, number: int = number, barrier: threading.Barrier = barrier
            ) -> ActionResult:
                barrier.wait(5)
                return pool.perform(action, key(f"race-{number}"), silent)

            done = list(threads.map(run, racers))
            assert {one.data["exit_code"] for one in done} == {7}
            assert len({one.data["stdout"] for one in done}) == 1, "they saw different runs"
    assert ledger(lab) == KEYS


def test_nothing_stays_on_a_host_after_the_run(lab: Lab, pools: Pools) -> None:
    """Neither files nor processes, with queries, jobs with a limit, and one that was killed."""
    before = _files(lab)
    pool = pools()
    reads = pool.host_reads("west-web")
    assert reads.query("echo seen").stdout == "seen\n"
    pool.perform(
        RunCommand(host="west-web", script="echo out; exit 0", timeout=600), key("limited"), silent
    )
    job = Watched(pool, "killed", "echo begun; sleep 600", host="west-web")
    job.said("begun")
    pool.kill(job.action, job.key)
    assert job.result().data["exit_code"] == 143
    assert ours(lab, "west-web"), "the runners that are open are seen"
    pool.tidy()
    assert _files(lab) == before
    pool.close()
    wait_quiet(lab, "west-web")


def _files(lab: Lab) -> set[str]:
    """All that is on the disk of the host and in what it has in memory, but its logs."""
    host = lab["west-web"]
    kept = {str(path) for path in host.disk.rglob("*") if "/var/log/" not in str(path)}
    return kept | set(host.run("find /tmp /run /dev/shm").stdout.split())


KILLED = """\
import sys
from pathlib import Path
from runbook.model.actions import RunCommand
from runbook.model.inventory import Inventory
from tests.transports.ssh_lab import key, make_pool, silent
inventory = Inventory.model_validate_json(Path(sys.argv[1]).read_text())
pool = make_pool(inventory, Path(sys.argv[2]), run="move-9")
pool.host_reads("west-web").query("true")
pool.perform(RunCommand(host="west-web", script="echo begun >/run/begun; sleep 4"), key("k"),
             silent)
"""


def test_no_runner_outlives_a_killed_controller_for_long(
    lab: Lab, pools: Pools, tmp_path: Path
) -> None:
    """The command goes on to its end, and is found by the next controller; nothing else stays."""
    hosts = tmp_path / "hosts.json"
    hosts.write_text(pools()._inventory.model_dump_json())
    controller = lab.start(
        "control", sys.executable, "-c", KILLED, str(hosts), str(tmp_path / "killed"),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    wait_for("the command has begun", lambda: not lab["west-web"].run(
        "test -e /run/begun", check=False).returncode)
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait(5)
    # The job's end, and the five seconds that a runner may be waiting for it.
    wait_quiet(lab, "west-web", 4 + 5 + 3)
    again = pools(run="move-9")
    script = "echo begun >/run/begun; sleep 4"
    found = again.resolve(RunCommand(host="west-web", script=script), key("k"))
    assert found.outcome == "done"
    again.tidy()
