"""Standard output and error whose reader may go away, as ``head`` does and a killed ``tee``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from runbook.errors import ExitCode


class Output:
    """A standard stream. When it cannot be written to any more, what is said goes nowhere.

    A command that only shows something ends then, quietly and with the code that every other tool
    has. One that drives a run goes on, see :func:`needs_no_reader`: a move must not end in the
    middle because its output does.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.goes_on = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as fault:
            self._lost(fault)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as fault:
            self._lost(fault)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lost(self, fault: OSError) -> None:
        if not self.goes_on and not isinstance(fault, BrokenPipeError):
            raise fault
        # What is buffered would be tried again, at the latest when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not self.goes_on:
            raise SystemExit(int(ExitCode.NOBODY_READS))


@contextlib.contextmanager
def standing() -> Iterator[None]:
    """Around a whole command: its standard streams are :class:`Output`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Output(stream)) for stream in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = before


def needs_no_reader() -> None:
    """From here on the command goes on to its own end, whether or not anybody reads what it
    says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output):
            stream.goes_on = True
