"""Consoles: text is text here, never markup, and colour is left out where it is unwanted."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console


def plain_console(stream: IO[str] | None = None, *, width: int | None = None) -> Console:
    """A console on standard output (or ``stream``). It honours NO_COLOR and TERM=dumb; square
    brackets and colons in what a host says stay what they are."""
    return Console(
        file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True,
        width=width,
    )


def styled_console() -> Console:
    """A console on standard output for texts of our own, in which ``[bold]`` is markup. What a
    host or a file says goes through ``rich.markup.escape`` first."""
    return Console(highlight=False, emoji=False)


def ascii_only(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")
