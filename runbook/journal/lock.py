"""One controller a run: a lock the kernel frees at death, with its holder written inside."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import threading
import time
from pathlib import Path
from types import TracebackType

from runbook.errors import HeldByOther, JournalFault


class RunLock:
    """An exclusive flock(2) on a file. Raises HeldByOther, naming the holder, and JournalFault
    where there can be no such file."""

    def __init__(self, path: Path, run_id: str, holder: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise JournalFault(
                f"run {run_id} cannot be taken: {path}: {fault.strerror}",
                hint="nothing was changed; check the rights of the state folder",
            ) from fault
        if not _exclusive(self._fd):
            text = os.pread(self._fd, 4096, 0).decode(errors="replace")
            os.close(self._fd)
            raise HeldByOther(
                f"run {run_id} is held by {_describe(text, path)}",
                hint=_way_out(text, path, run_id),
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"holder": holder, "pid": os.getpid()}).encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_PATIENCE = 5.0
"""Seconds for which others may be found to be just looking, as :func:`holder_of` does."""


def _exclusive(fd: int) -> bool:
    """Take the lock; False when a controller has it. One that only looks has it shared, for an
    instant, and is no reason to give up."""
    deadline = time.monotonic() + _PATIENCE
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        if time.monotonic() > deadline:
            return False
        # flock(2) has no wait that ends by itself, and a controller may come meanwhile.
        pause.wait(random.uniform(0.0001, 0.002))


def holder_of(path: Path) -> str | None:
    """Who holds the lock now, or None when nobody does. Never raises: one run whose lock cannot
    be looked at is no reason to hide all others."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as fault:
        cannot_be = fault.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
        return None if cannot_be else f"somebody unknown ({fault.strerror})"
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(os.pread(fd, 4096, 0).decode(errors="replace"), path)
    finally:
        os.close(fd)
    return None


def _describe(text: str, path: Path) -> str:
    try:
        data = json.loads(text)
        who = f"{data['holder']} (process {data['pid']})"
    except (ValueError, KeyError, TypeError):
        return "another controller"
    return f"{who}, which is stopped" if _stopped(text, path) else who


def _way_out(text: str, path: Path, run_id: str) -> str:
    pid = _stopped(text, path)
    if pid:
        return (
            f"`kill -CONT {pid}` lets it go on. To take the run over: `kill -KILL {pid}`, then "
            f"`runbook resume {run_id}`; commands under way on hosts go on meanwhile and are found "
            "again. Nothing was changed"
        )
    return (
        "watch it with `runbook status`, answer it with `runbook approve`, or stop that "
        "controller first; nothing was changed"
    )


def _stopped(text: str, path: Path) -> int:
    """The process that holds the lock, where it is of this machine and stopped (SIGSTOP, Ctrl-Z,
    a debugger); otherwise 0. Only a process that has the file open is meant: the number alone
    could be of another machine, or of another process by now."""
    try:
        pid = int(json.loads(text)["pid"])
        place = Path(f"/proc/{pid}")
        state = (place / "stat").read_text().rpartition(") ")[2][:1]
        holds = any(_same(handle, path) for handle in (place / "fd").iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return pid if state in "Tt" and holds else 0


def _same(handle: Path, path: Path) -> bool:
    try:
        return handle.samefile(path)
    except OSError:
        return False
