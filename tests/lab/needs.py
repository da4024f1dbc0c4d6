"""What a machine must offer for the lab, and why it cannot be opened where it does not."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile

import pytest

PROGRAMS = {
    "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "unshare": "util-linux",
    "nsenter": "util-linux", "setsid": "util-linux", "pivot_root": "util-linux",
    "sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client",
    "named": "bind9", "dig": "bind9-dnsutils", "knotd": "knot", "unbound": "unbound",
    "rsync": "rsync", "ping": "iputils-ping", "curl": "curl", "python3": "python3",
}
"""Programs and the Debian packages they are in."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TRIAL = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/u" "$1/w" "$1/r"
mount -t overlay trial -o "lowerdir=/,upperdir=$1/u,workdir=$1/w" "$1/r"
true >"$1/r/trial"
"""


def find(program: str) -> str | None:
    return shutil.which(program, path=PATH)


@functools.cache
def missing() -> str:
    """Why the lab cannot be opened here; empty when it can."""
    if os.geteuid() != 0:
        return "the lab needs root, for network namespaces and mounts"
    lacking = {package for program, package in PROGRAMS.items() if find(program) is None}
    if lacking:
        return f"the lab needs packages that are not installed: {', '.join(sorted(lacking))}"
    with tempfile.TemporaryDirectory(prefix="runbook-lab-trial-") as folder:
        trial = subprocess.run(
            ["unshare", "-n", "-m", "-u", "-i", "-p", "-f", "sh", "-c", _TRIAL, "sh", folder],
            capture_output=True, text=True, timeout=30, check=False,
        )
    if trial.returncode != 0:
        return f"this kernel or container allows no namespaces or overlays: {trial.stderr.strip()}"
    return ""


def without(program: str) -> pytest.MarkDecorator:
    """A mark for tests that need one program more."""
    return pytest.mark.skipif(find(program) is None, reason=f"{program} is not installed")


marks = [pytest.mark.lab, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]
"""`pytestmark` of every module that opens the lab."""
