"""Commands on hosts that are cut off, restarted, silent, and far away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt
from runbook.model.actions import RunCommand
from runbook.transports.ssh.jobs import Reconnect
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.remote import LEDGER, Pools, Watched, ledger
from tests.transports.ssh_lab import HASTY, key, silent

pytestmark = marks

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


def test_the_end_of_the_login_session_does_not_end_the_command(lab: Lab, pools: Pools) -> None:
    """Every process of the sessions that sshd has opened is killed, with all children that have
    not left them; the command and its supervisor have sessions of their own."""
    job = Watched(pools(), "session", LEDGER + "echo begun; until [ -e /root/go ]; do sleep 0.05; "
                  "done; rm /root/go; echo ended; exit 7")
    job.said("begun")
    killed = lab["east-web"].run(
        "for sshd in $(pgrep -f '[s]shd: root'); do for shell in $(pgrep -P $sshd); do\n"
        "  pkill -KILL -s $(ps -o sid= -p $shell) && echo killed; done; kill -9 $sshd; done\n"
        "true >/root/go"
    )
    assert "killed" in killed.stdout
    assert job.result().data["stdout"] == "begun\nended\n"
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
