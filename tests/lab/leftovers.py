"""What labs leave behind when their process is killed: found by name, ended by id, removed.

Everything of a lab has its id: its folder, its network namespaces, and through these two its
mounts (all below the folder) and its processes (all in the namespaces, or with the folder or the
id in their command line).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from tests.lab.processes import kill, run, start_time, wait_for

PREFIX = "rblab-"
NETNS = Path("/run/netns")
KEPT = "kept"
"""Owner of a lab that was opened to stay, with `make lab`."""


def base() -> Path:
    """Always the same folder, whatever the environment says, so that all labs are found."""
    return Path("/var/tmp")


def folders() -> list[Path]:
    return sorted(p for p in base().glob(f"{PREFIX}*") if p.is_dir())


def labs() -> list[str]:
    """Ids of all labs of which anything is left, running ones included."""
    found = {p.name for p in folders()}
    if NETNS.is_dir():
        found |= {lab_of(p.name) for p in NETNS.iterdir() if p.name.startswith(PREFIX)}
    return sorted(found)


def lab_of(name: str) -> str:
    """``rblab-1a2b3c-east-web`` → ``rblab-1a2b3c``."""
    return "-".join(name.split("-")[:2])


def owned(lab_id: str) -> bool:
    """Whether the process that opened it still lives. A kept lab has no owner."""
    try:
        pid, started = (base() / lab_id / "owner").read_text().split()
    except (OSError, ValueError):
        return False
    return pid != KEPT and start_time(int(pid)) == started


def kept(lab_id: str) -> bool:
    try:
        return (base() / lab_id / "owner").read_text().startswith(KEPT)
    except OSError:
        return False


def processes(lab_id: str) -> list[int]:
    """Every process of a lab: supervisors first, so that none starts a host anew."""
    spaces = set()
    if NETNS.is_dir():
        for path in NETNS.iterdir():
            if lab_of(path.name) == lab_id:
                spaces.add(path.stat().st_ino)
    folder = f"{base() / lab_id}/".encode()
    supervisors, others = [], []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            space = (entry / "ns/net").stat().st_ino
        except OSError:
            continue
        if words[3:4] == [b"runbook-lab"] and any(w.startswith(folder) for w in words):
            supervisors.append(int(entry.name))
        elif space in spaces:
            others.append(int(entry.name))
    return supervisors + others


def mounts(lab_id: str) -> list[str]:
    """Mount points below a lab's folder, the innermost first."""
    folder = f"{base() / lab_id}/"
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted((r.split()[4] for r in rows if r.split()[4].startswith(folder)), reverse=True)


def remains(lab_id: str) -> list[str]:
    """What there still is of a lab, in words; empty when nothing is left."""
    found = [f"process {pid}" for pid in processes(lab_id)]
    found += [f"mount {point}" for point in mounts(lab_id)]
    if NETNS.is_dir():
        found += [f"namespace {p.name}" for p in NETNS.iterdir() if lab_of(p.name) == lab_id]
    if (base() / lab_id).exists():
        found.append(f"folder {base() / lab_id}")
    return found


def remove(lab_id: str) -> None:
    """End and remove all of a lab. Raises AssertionError when something stays."""
    assert lab_id.startswith(PREFIX), lab_id
    for _ in range(5):
        pids = processes(lab_id)
        if not pids:
            break
        for pid in pids:
            kill([pid])
    wait_for(f"the processes of {lab_id} end", lambda: not processes(lab_id))
    if NETNS.is_dir():
        for path in NETNS.iterdir():
            if lab_of(path.name) == lab_id:
                run("ip", "netns", "del", path.name)
    for point in mounts(lab_id):
        run("umount", point)
    shutil.rmtree(base() / lab_id, ignore_errors=True)
    assert not remains(lab_id), remains(lab_id)


def lock() -> Path:
    """Locked (flock(2)) by who sweeps: two at once would take things from under each other."""
    return base() / "rblab.lock"


def sweep() -> list[str]:
    """Remove every lab whose process is dead; their ids. Kept ones stay."""
    with lock().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        dead = [lab for lab in labs() if not owned(lab) and not kept(lab)]
        for lab in dead:
            remove(lab)
        return dead
