"""Commands on hosts whose disk is full, or slow, or swept by others."""

from __future__ import annotations

import time

import pytest

from runbook.errors import Errored, InDoubt
from runbook.model.actions import RunCommand
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.remote import LEDGER, Pools, Watched, ledger
from tests.transports.ssh_lab import key, silent

pytestmark = marks


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


def test_a_disk_that_is_full_at_any_moment_of_a_launch(lab: Lab, pools: Pools) -> None:
    """With ever more room left, a launch gets ever further: it is certain that nothing was done,
    or the exit code is right; and with room again the same key has run once."""
    pool = pools()
    pool.prepare(("east-web",), {})
    refused = 0
    for pages in range(16):
        action = RunCommand(host="east-web", script="echo ran >>/run/ledger; exit 7",
                            ok_codes=(7,), timeout=60)
        lab.fill_disk("east-web", 4096 * pages)
        try:
            assert pool.perform(action, key(f"page-{pages}"), silent).data["exit_code"] == 7
        except Errored as told:
            assert "nothing was started" in told.message
            assert _runs(lab) == pages
            refused += 1
        finally:
            lab.free_disk("east-web")
        assert pool.perform(action, key(f"page-{pages}"), silent).data["exit_code"] == 7
        assert _runs(lab) == pages + 1
    assert 0 < refused < 16, "some had no room, and some had"
    lab["east-web"].run("rm /run/ledger")


def _runs(lab: Lab) -> int:
    return int(lab["east-web"].run("cat /run/ledger 2>/dev/null | wc -l").stdout)


def test_a_host_that_is_full_before_it_is_opened(lab: Lab, pools: Pools) -> None:
    lab.fill_disk("west-web")
    try:
        with pytest.raises(Errored, match="cannot be"):
            pools().prepare(("west-web",), {})
    finally:
        lab.free_disk("west-web")
    pools().prepare(("west-web",), {})


def test_a_command_on_a_full_disk_can_be_ended(lab: Lab, pools: Pools) -> None:
    pool = pools()
    pool.prepare(("east-web",), {})
    job = Watched(pool, "ended", "echo begun; trap 'exit 7' TERM; sleep 600 & wait")
    job.said("begun")
    lab.fill_disk("east-web")
    try:
        pool.kill(job.action, job.key)
        assert job.result().data["exit_code"] == 7
    finally:
        lab.free_disk("east-web")


def test_a_slow_disk_is_no_doubt(lab: Lab, pools: Pools) -> None:
    """Every request is answered long before the disk is done: neither the first contact, nor a
    fence, nor a launch turns slowness into doubt."""
    delay = 3
    lab.slow_disk("west-web", delay)
    try:
        pool = pools(run="move-slow", epoch=2)
        start = time.monotonic()
        done = pool.perform(
            RunCommand(host="west-web", script=LEDGER + "exit 7", ok_codes=(7,)), key("slow"),
            silent,
        )
        took = time.monotonic() - start
    finally:
        lab.slow_disk("west-web", None)
    assert done.data["exit_code"] == 7
    assert took > 3 * delay, "the disk was slow at first contact, fence and launch"
    assert ledger(lab, "west-web") == 1
    pool.tidy()


def test_cleaners_of_temporary_files_cost_nothing(lab: Lab, pools: Pools) -> None:
    """All that is in /tmp, /run, /var/tmp and /dev/shm goes while a command runs."""
    job = Watched(pools(), "swept", LEDGER + "echo begun; until [ -e /root/go ]; do sleep 0.05; "
                  "done; rm /root/go; echo ended; exit 7")
    job.said("begun")
    lab["east-web"].run("rm -rf /tmp/* /tmp/.[!.]* /dev/shm/* /run/user /run/runbook* /run/lock; "
                        "find /run -type f -delete; true >/root/go")
    done = job.result()
    assert (done.data["exit_code"], done.data["stdout"]) == (7, "begun\nended\n")
    assert pools().resolve(job.action, job.key).outcome == "done"
    assert ledger(lab) == 1


def test_a_cleaner_of_homes_makes_a_doubt_and_no_second_run(lab: Lab, pools: Pools) -> None:
    pool = pools(run="move-home")
    job = Watched(pool, "home", LEDGER + "echo begun; until [ -e /root/go ]; do sleep 0.05; done; "
                  "rm /root/go")
    job.said("begun")
    lab["east-web"].run("rm -rf /root/.runbook")
    with pytest.raises(InDoubt):
        job.result()
    lab["east-web"].run("true >/root/go")
    fresh = pools(run="move-home")
    fresh.expect_markers(pool.markers())
    assert fresh.resolve(job.action, job.key).outcome == "unknown"
    with pytest.raises(InDoubt):
        pool.perform(job.action, job.key, silent)
    assert ledger(lab) == 1
