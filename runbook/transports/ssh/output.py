"""Output of a job as it arrives: redacted as a stream, written to a file, told line by line."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from runbook.model.ports import Progress
from runbook.model.secrets import Redactor

HEAD = 64 * 1024
"""Bytes of the beginning that are kept for the result."""

_LINE_LIMIT = 64 * 1024


class OutputStream:
    """One stream of one job.

    ``offset`` counts the raw bytes taken so far; ask the host for what follows. Time and memory
    are linear in what is fed: a value cut in two by a chunk's end waits for the next chunk.
    """

    def __init__(self, path: Path, redactor: Redactor, progress: Progress) -> None:
        self.path = path
        self.offset = 0
        self._redactor = redactor
        self._progress = progress
        self._held = b""
        self._line = bytearray()
        self._head = bytearray()
        self._size = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("wb")

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write out what was held back, also when the job's end is not known."""
        self._emit(self._redactor.data(self._held))
        self._held = b""
        if self._line:
            self._tell(bytes(self._line))
            self._line.clear()
        self._file.close()

    @property
    def head(self) -> str:
        """The first 64 KiB, redacted, as text."""
        return self._head.decode("utf-8", "replace")

    @property
    def cut(self) -> bool:
        """Whether ``head`` is not all of it."""
        return self._size > len(self._head)

    def restart(self) -> None:
        """Begin again from an empty file: the job is run anew."""
        self.offset = 0
        self._held = b""
        self._line.clear()
        self._head.clear()
        self._size = 0
        self._file.seek(0)
        self._file.truncate()

    def discard(self) -> None:
        """Remove the file: nothing was ever begun that could have written to it."""
        self.path.unlink(missing_ok=True)

    def feed(self, data: bytes) -> None:
        if not data:
            return
        self.offset += len(data)
        whole = self._held + data
        cut = self._redactor.settled(whole)
        self._held = whole[cut:]
        self._emit(self._redactor.data(whole[:cut]))
        self._file.flush()

    def finish(self) -> None:
        """The job has ended: nothing more comes, so nothing has to be held back."""
        self._emit(self._redactor.data(self._held))
        self._held = b""
        self._file.flush()

    def _emit(self, data: bytes) -> None:
        if not data:
            return
        self._file.write(data)
        self._size += len(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._tell(bytes(self._line) + line)
            self._line.clear()
        self._line += rest
        while len(self._line) > _LINE_LIMIT:
            self._tell(bytes(self._line[:_LINE_LIMIT]))
            del self._line[:_LINE_LIMIT]

    def _tell(self, line: bytes) -> None:
        self._progress(line.decode("utf-8", "replace").rstrip("\r"))
