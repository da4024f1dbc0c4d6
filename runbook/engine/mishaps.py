"""Exceptions that nobody expected, and what becomes of them.

A kind, a transport or a screen may come from anywhere and may break in any way. What breaks in a
kind fails its step, what breaks in a transport leaves a doubt, what breaks on a screen is noted:
none of them may end a run in the middle, without its way back. What the engine itself raises to
stop is never taken for one of these.
"""

from __future__ import annotations

from runbook.engine.context import LeftOut, Stopping
from runbook.errors import Fenced, JournalFault, RunbookError
from runbook.model.state import IllegalTransition

PASSING = (Stopping, LeftOut, JournalFault, Fenced, IllegalTransition)
"""Always raised on: the run stops, a person left out what is at work, or the journal says no."""


def words(fault: Exception) -> str:
    """One line for people. What is no error of ours keeps its type: it is to be mended."""
    if isinstance(fault, RunbookError):
        return f"{fault.message} ({fault.hint})" if fault.hint else fault.message
    if isinstance(fault, ValueError) and not isinstance(fault, UnicodeError):
        return str(fault)
    return f"{type(fault).__name__}: {fault}"
