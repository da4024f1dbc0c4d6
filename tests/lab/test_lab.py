"""The lab itself: what it promises to the other tests holds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import leftovers
from tests.lab.lab import MACHINES, Lab
from tests.lab.machine import PARTS
from tests.lab.names import PRIMARY, SECONDARY
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for

pytestmark = marks

EAST, WEST = "198.51.100.10", "203.0.113.10"


def ping(lab: Lab, desk: str, address: str) -> float | None:
    """Milliseconds there and back; None when no answer comes."""
    said = lab.run(desk, "ping", "-n", "-c", "1", "-W", "1", address, check=False).stdout
    found = re.search(r"time=([\d.]+) ms", said)
    return float(found[1]) if found else None


def reaches(lab: Lab, host: str, address: str) -> bool:
    return lab[host].run(f"ping -n -c 1 -W 1 {address}", check=False).returncode == 0


def test_hosts_reach_each_other_and_nothing_else(lab: Lab) -> None:
    for name, address in MACHINES.items():
        assert ping(lab, "client", address) is not None, name
    assert reaches(lab, "east-web", WEST)
    assert not reaches(lab, "east-web", "192.0.2.99")
    said = lab["east-web"].run("ip route get 1.1.1.1 && ping -n -c 1 -W 1 1.1.1.1", check=False)
    assert said.returncode != 0, "there is no way out of the lab"


def test_ssh_with_strict_host_keys(lab: Lab, tmp_path: Path) -> None:
    for name, address in MACHINES.items():
        assert lab.ssh("control", address, "hostname").stdout == f"{name}\n"
    assert lab["east-web"].run("ssh -o BatchMode=yes west-web hostname").stdout == "west-web\n"
    wrong = tmp_path / "known_hosts"
    keys = lab.known_hosts.read_text().splitlines()
    swapped = [line for line in keys if line.startswith("west-web,")]
    wrong.write_text(swapped[0].replace("west-web", "east-web").replace(WEST, EAST) + "\n")
    refused = lab.ssh("control", EAST, "hostname", known_hosts=wrong)
    assert refused.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr


def test_primary_secondary_and_resolvers_answer(lab: Lab) -> None:
    for server in (PRIMARY, SECONDARY, "198.51.100.53", "203.0.113.53"):
        assert lab.dig(f"@{server}", "www.shop.example", "A") == ["shop.example.", EAST]
    assert lab.dig("shop.example", "A", desk="client") == [EAST], "by its own resolv.conf"
    assert lab["west-web"].run("getent ahostsv4 shop.example").stdout.startswith(EAST)


def test_each_host_is_its_own_machine(lab: Lab) -> None:
    east = lab["east-web"]
    assert "east-web" in east.run("hostname").stdout
    assert int(east.run("ps -e --no-headers | wc -l").stdout) < 15
    east.run("echo mine >/etc/only-here; echo x >/root/note; test ! -e /dev/vda")
    assert not Path("/etc/only-here").exists()
    assert lab["west-web"].run("test -e /etc/only-here", check=False).returncode == 1
    assert reaps(lab, "east-web")


def reaps(lab: Lab, host: str) -> bool:
    """Whether its process 1 reaps orphans: three daemons that end leave no zombie."""
    lab[host].run("for i in 1 2 3; do setsid sh -c 'sleep 0.05 & exit' & done; sleep 0.3")
    return "Z" not in lab[host].run("ps -e -o stat= | cut -c1").stdout


def test_the_reaper_where_tini_is_missing() -> None:
    init = "#!/bin/sh\nexec python3 /etc/runbook-lab/reaper.py /bin/sh /etc/runbook-lab/rc\n"
    with Lab.open(files={"east-probe": {"/etc/runbook-lab/init": init}}) as lab:
        assert "python" in lab["east-probe"].run("readlink /proc/1/exe").stdout
        assert reaps(lab, "east-probe")
        lab.reboot("east-probe")
        assert reaches(lab, "east-web", MACHINES["east-probe"])


def test_power_cut_and_back_with_the_disk_kept(lab: Lab) -> None:
    east = lab["east-web"]
    east.run("echo kept >/root/kept; echo gone >/run/gone; sleep 300 >/dev/null 2>&1 &")
    inner = leftovers.processes(lab.id)
    lab.power_cut("east-web")
    assert ping(lab, "client", EAST) is None
    assert len(leftovers.processes(lab.id)) < len(inner)
    lab.power_on("east-web")
    assert lab.ssh("control", EAST, "cat kept; ls /run/gone").stdout == "kept\n"
    assert "sleep 300" not in east.run("ps -e -o args").stdout


def test_reboot_from_inside(lab: Lab) -> None:
    before = Path("/proc/sys/kernel/random/boot_id").read_text(), lab["east-web"].init
    lab["east-web"].run("echo kept >/root/kept")
    lab.reboot("east-web")
    assert Path("/proc/sys/kernel/random/boot_id").read_text() == before[0]
    assert lab["east-web"].init != before[1]
    assert lab.ssh("control", EAST, "cat kept").stdout == "kept\n"


def test_reboot_acts_nowhere_but_in_a_lab_host(lab: Lab) -> None:
    """It is called here, outside, and where only the file system is a host's."""
    code = (PARTS / "reboot.py").read_text()
    acting = code.replace(".reboot(", ".getpid_would_have_been_reboot(")
    assert acting != code
    outside = subprocess.run(
        [sys.executable, "-c", acting], capture_output=True, text=True, check=False
    )
    assert (outside.returncode, "refused" in outside.stderr) == (1, True)
    init = str(lab["east-web"].init)
    half = subprocess.run(
        ["nsenter", "-t", init, "-m", "-r", "python3", "-c", acting],
        capture_output=True, text=True, check=False,
    )
    assert (half.returncode, "refused" in half.stderr) == (1, True)
    within = lab["east-web"].run(f"cat >/root/r.py <<'X'\n{acting}\nX\npython3 r.py", check=False)
    assert "getpid_would_have_been_reboot" in within.stderr, "the guard lets it through inside"
    which = lab["east-web"].run("for n in reboot halt poweroff shutdown; do "
                                "head -c 20 /sbin/$n; head -c 20 $(command -v $n); done").stdout
    assert which.count("#!/usr/bin/env pytho") == 8


def test_partition_and_heal(lab: Lab) -> None:
    lab.partition("east", "west")
    assert not reaches(lab, "east-web", WEST)
    assert not reaches(lab, "west-web", EAST)
    assert ping(lab, "client", EAST) is not None
    lab.heal()
    assert reaches(lab, "east-web", WEST)


def test_one_way_loss(lab: Lab) -> None:
    """What west sends to east is lost; what east sends arrives."""
    lab.one_way_loss("west", "east")
    lab["west-web"].run("timeout 5 socat -u UDP-RECV:999 CREATE:/root/heard "
                        ">/dev/null 2>&1 & sleep 0.2")
    lab["east-web"].run(f"echo hello | socat -u - UDP-SENDTO:{WEST}:999")
    wait_for("it arrives", lambda: "hello" in lab["west-web"].run(
        "cat heard", check=False).stdout)
    assert not reaches(lab, "east-web", WEST), "the answer is lost"


@pytest.mark.parametrize("milliseconds", [20, 100])
def test_delay(lab: Lab, milliseconds: int) -> None:
    lab.delay("east", milliseconds)
    took = [t for _ in range(3) if (t := ping(lab, "client", EAST)) is not None]
    assert 2 * milliseconds <= min(took) < 2 * milliseconds + 20
    other = ping(lab, "client", WEST)
    assert other is not None
    assert other < 15
    lab.delay("east", 0)
    back = min(t for _ in range(3) if (t := ping(lab, "client", EAST)) is not None)
    assert back < 15


def test_slow(lab: Lab) -> None:
    lab["east-web"].run("head -c 200000 /dev/zero >/root/zeros")

    def fetch() -> float:
        start = time.monotonic()
        assert len(lab.ssh("control", EAST, "cat zeros").stdout) == 200000
        return time.monotonic() - start

    fast = fetch()
    lab.slow("east-web", 800)
    assert fetch() > 1.5 > fast
    lab.slow("east-web", None)


@without("faketime")
def test_wrong_clock(lab: Lab) -> None:
    lab.wrong_clock("east-web", "+3d")
    there = int(lab.ssh("control", EAST, "date +%s").stdout)
    assert abs(there - time.time() - 3 * 86400) < 30
    lab.wrong_clock("east-web", "")
    assert abs(int(lab.ssh("control", EAST, "date +%s").stdout) - time.time()) < 30


def test_full_disk(lab: Lab) -> None:
    lab.fill_disk("east-web")
    full = lab["east-web"].run("head -c 100000 /dev/zero >/root/x", check=False)
    assert "No space left" in full.stderr
    lab.free_disk("east-web")
    lab["east-web"].run("head -c 100000 /dev/zero >/root/x")


def test_it_opens_fast_and_leaves_nothing() -> None:
    start = time.monotonic()
    with Lab.open() as lab:
        took = time.monotonic() - start
        held = leftovers.remains(lab.id)
        assert sum(item.startswith("namespace") for item in held) == 11
        assert len(held) > 40
    assert took < 10
    assert leftovers.remains(lab.id) == []
    print(f"opened in {took:.1f} s")


_KILLED = """
import fcntl, os, signal, sys
from tests.lab.lab import Lab
lab = Lab.open()
fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX)
lab.delay("east", 20)
lab.start("control", "sleep", "300")
print(lab.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_test_left_is_found_and_removed() -> None:
    root = Path(__file__).parents[2]
    # The lock is of the open file, which both have: no other test sweeps before we have looked.
    with leftovers.lock().open("w") as lock:
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(lock.fileno())], capture_output=True, text=True,
            check=False, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
            pass_fds=[lock.fileno()],
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        dead = done.stdout.strip()
        assert len(leftovers.remains(dead)) > 40
    with Lab.open() as other:
        assert leftovers.remains(dead) == [], "opening a lab sweeps dead ones"
        assert leftovers.owned(other.id)
        assert other.id not in leftovers.sweep(), "a living one is left alone"
