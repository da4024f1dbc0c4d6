"""Errors that reach a person, and the exit code of each.

Every error says what happened, what state things are in, and what to do next: the first is
``message``, the last is ``hint``. Exit codes come in ranges so that a script can tell *your file
is wrong* (10..19) from *the run did not end as planned* (20..29) and *a machine did not answer*
(30..39).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Process exit codes of the ``runbook`` command."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INVALID = 10
    """A runbook, playbook or inventory is not valid; nothing was touched."""
    REFUSED = 11
    """A policy forbids it (no rehearsal, outside the window, …); nothing was touched."""
    HELD_BY_OTHER = 12
    """Another controller holds the run."""
    NOT_FOUND = 13
    JOURNAL = 14
    """The journal cannot be trusted or written."""
    HELD = 20
    """The run stopped at a failure and waits for a decision; the world is as the journal says."""
    ROLLED_BACK = 21
    """The run failed and everything was put back."""
    NOT_RESTORED = 22
    """The run failed and something could not be put back; the report names it."""
    IN_DOUBT = 23
    """An action was started and its outcome is unknown; a person has to look."""
    STOPPED = 24
    """Stopped at a checkpoint on request; ``runbook resume`` goes on."""
    REHEARSAL_FAILED = 25
    UNREACHABLE = 30
    """A host, zone or service could not be asked."""
    NOBODY_READS = 141
    """The reader of what a command only shows is gone; 128 + SIGPIPE, as shells tell it."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: Path
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong with an input file, where, and how to mend it."""

    message: str
    position: Position | None = None
    hint: str = ""

    def render(self, source: str | None = None) -> str:
        """Plain text: ``file:line:col: message``, the line, a caret, the hint.

        ``source`` is the text of the file; without it the excerpt is left out.
        """
        where = f"{self.position}: " if self.position else ""
        lines = [f"{where}error: {self.message}"]
        if self.position and source is not None:
            rows = source.splitlines()
            if 1 <= self.position.line <= len(rows):
                row = rows[self.position.line - 1].replace("\t", " ")
                number = str(self.position.line)
                start = max(self.position.column - 1, 0)
                width = max(1, min(self.position.length, max(1, len(row) - start)))
                lines.append(f"  {number} | {row}")
                lines.append(f"  {' ' * len(number)} | {' ' * start}{'^' * width}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class RunbookError(Exception):
    """Base of every error that is meant for the operator."""

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_LARGEST_SHOWN = 16 * 1024 * 1024


class InvalidInput(RunbookError):
    """One or more input files are not valid. All diagnostics are reported together."""

    exit_code = ExitCode.INVALID

    def __init__(
        self, diagnostics: tuple[Diagnostic, ...], *, state: str = "nothing was touched"
    ) -> None:
        count = len(diagnostics)
        super().__init__(f"{count} error{'s' if count != 1 else ''} in the input")
        self.diagnostics = diagnostics
        self.state = state
        """What state things are in."""

    def render(self) -> str:
        """All diagnostics as text, each with its excerpt, in file order."""
        sources: dict[Path, str | None] = {}
        out: list[str] = []
        for item in self.diagnostics:
            text: str | None = None
            if item.position is not None:
                path = item.position.file
                if path not in sources:
                    sources[path] = _excerpted(path)
                text = sources[path]
            out.append(item.render(text))
        return "\n\n".join(out)


def _excerpted(path: Path) -> str | None:
    """The text of a file to show a line of; None where there is none, or no end of it."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_SHOWN + 1)
    except OSError:
        return None
    return None if len(data) > _LARGEST_SHOWN else data.decode("utf-8", "replace")


class TemplateFault(RunbookError):
    """A ``{{ … }}`` expression is malformed, unsafe, or names something that does not exist."""

    exit_code = ExitCode.INVALID


class Refused(RunbookError):
    """A policy forbids what was asked; nothing was touched."""

    exit_code = ExitCode.REFUSED


class HeldByOther(RunbookError):
    """Another controller holds the run."""

    exit_code = ExitCode.HELD_BY_OTHER


class NotFound(RunbookError):
    """No such run, step, host or kind."""

    exit_code = ExitCode.NOT_FOUND


class JournalFault(RunbookError):
    """The journal is broken, of an unknown version, or could not be written."""

    exit_code = ExitCode.JOURNAL


class Errored(RunbookError):
    """We could not ask, and are certain that nothing was changed by *this* attempt.

    The world did not say no: nobody answered. It is safe to try again.
    """

    exit_code = ExitCode.UNREACHABLE


class HostKeyRefused(Errored):
    """The host's key is unknown or has changed; nothing was sent."""


class InDoubt(RunbookError):
    """An effect was started and its outcome is unknown. Never repeat it blindly."""

    exit_code = ExitCode.IN_DOUBT


class Fenced(RunbookError):
    """A newer controller (a greater epoch) has taken over; this one must stop at once."""

    exit_code = ExitCode.HELD_BY_OTHER
