"""Running programs for the lab, and ending processes, by their ids alone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.lab.needs import PATH

ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}


def run(*command: str, input: str | None = None, timeout: float = 30) -> str:
    """Standard output of a program that must succeed. Raises AssertionError."""
    done = subprocess.run(
        command, input=input, capture_output=True, text=True, timeout=timeout, check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout}"
    return done.stdout


def wait_for(what: str, condition: Callable[[], bool], patience: float = 15.0) -> None:
    """Wait for a fact about the outside. Raises AssertionError."""
    end, pause = time.monotonic() + patience, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"waited {patience:.0f} s in vain: {what}"
        pause.wait(0.01)


def kill(pids: Iterable[int], patience: float = 10.0) -> None:
    """SIGKILL, and wait until they are gone. A pidfd each, so a reused id is never hit."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    try:
        for handle in handles:
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                continue
        end = time.monotonic() + patience
        for handle in handles:
            # A pidfd is readable once its process has ended, reaped or not (pidfd_open(2)).
            select.select([handle], [], [], max(0.0, end - time.monotonic()))
    finally:
        for handle in handles:
            os.close(handle)


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is none (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def listening(pid: int) -> set[int]:
    """TCP ports that are listened at in the network namespace of a process."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        found |= {int(r.split()[1].rpartition(":")[2], 16) for r in rows if r.split()[3] == "0A"}
    return found
