"""YAML → Runbook: positions, every error at once, playbooks, inventories."""

from __future__ import annotations

from runbook.loading.runbook import ForStaging, load_runbook

__all__ = ["ForStaging", "load_runbook"]
