"""What commands under way have written last, read where their output is kept: any terminal may."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from runbook.model.actions import ActionKey
from runbook.model.runstate import NodeStatus, RunState
from runbook.transports.ssh.protocol import job_name

_TAIL = 4096
"""Bytes of a file's end in which its last line is looked for."""


def output_under_way(state: RunState, run_directory: Path) -> tuple[tuple[str, str], ...]:
    """(node, its newest line of output) of every node at work, the newest line last.

    The files are redacted as they are written. A node that has written nothing has no line.
    """
    found: list[tuple[float, str, str]] = []
    for node in state.nodes.values():
        newest = max(_lines(state.run_id, node, run_directory / "output"), default=None)
        if newest is not None:
            found.append((newest[0], node.node, newest[1]))
    return tuple((name, line) for _, name, line in sorted(found))


def _lines(run_id: str, node: NodeStatus, folder: Path) -> list[tuple[float, str]]:
    """(when the file was last written, its last line) of the outputs of the latest intent."""
    op: Literal["do", "undo"] = "undo" if node.undo_unsettled else "do"
    attempt, actions = node.attempt, node.actions if node.unsettled else []
    if node.undo_unsettled:
        attempt, actions = node.undo_attempt, node.undo_actions
    lines = []
    for index in range(len(actions)):
        key = ActionKey(run=run_id, node=node.node, op=op, attempt=attempt, index=index)
        for end in ("out", "err"):
            try:
                with (folder / f"{job_name(key)}.{end}").open("rb") as file:
                    written = os.fstat(file.fileno())
                    file.seek(max(0, written.st_size - _TAIL))
                    said = file.read().decode("utf-8", "replace").split("\n")
            except FileNotFoundError:
                continue  # It runs no command, or has not begun.
            last = next((line.strip() for line in reversed(said) if line.strip()), "")
            if last:
                lines.append((written.st_mtime, last))
    return lines
