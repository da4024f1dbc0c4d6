"""Ending what a world started, and nothing else.

Programs and commands of a world may start others in sessions of their own. All of them carry the
world's id in the environment they were started with, and that is how they are found.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from runbook.sandbox.hosts import MARKER


def marked(world_id: str) -> list[int]:
    """Process ids that carry the id of the world, this process left out."""
    needle = f"{MARKER}={world_id}".encode()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            content = (entry / "environ").read_bytes()
        except OSError:
            continue  # ended meanwhile, or another user's: in both cases not ours to end
        if needle in content.split(b"\0"):
            found.append(int(entry.name))
    return found


def end_marked(world_id: str, *, patience: float = 2.0) -> int:
    """TERM, then KILL after ``patience`` seconds, to every marked process. How many there were.

    Zombies have an empty environment, so what is left unreaped is not counted.
    """
    started = time.monotonic()
    seen: set[int] = set()
    while True:
        found = marked(world_id)
        if not found or time.monotonic() - started > 3 * patience:
            return len(seen)
        late = time.monotonic() - started > patience
        for pid in found:
            if late or pid not in seen:
                send_signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        seen.update(found)
        _until_gone(found, 0.1)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Deliver a signal where the process still exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _until_gone(pids: list[int], patience: float) -> None:
    """Wait for the processes to end, ``patience`` seconds for all together at the most."""
    import select

    deadline = time.monotonic() + patience
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue  # already gone
        try:
            select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(handle)
