"""A runbook → its plan: everything expanded, rendered, checked. Pure, but for local files."""

from __future__ import annotations

from runbook.planning.build import build_plan
from runbook.planning.leave_out import without

__all__ = ["build_plan", "without"]
