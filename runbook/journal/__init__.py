"""The journal: what was intended, what came of it, who decided; never changed afterwards."""

from __future__ import annotations

from pathlib import Path

from runbook.journal.store import Draft, Lease, Message, Rehearsal, RunSummary, Store

__all__ = ["Draft", "Lease", "Message", "Rehearsal", "RunSummary", "Store", "open_store"]


def open_store(state_dir: Path) -> Store:
    """Open (or begin) the journal in a state folder. Raises JournalFault."""
    return Store(state_dir)
