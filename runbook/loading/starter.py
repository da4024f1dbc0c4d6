"""The commented runbook that ``runbook init`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

from runbook.loading.schema import json_schema
from runbook.model.kind import Kind

SCHEMA_FILE = "runbook.schema.json"


def starter_files(kinds: Mapping[str, type[Kind]]) -> dict[str, str]:
    """Name → content: a runbook, its inventory, and the JSON Schema its first line names."""
    folder = resources.files("runbook.loading") / "starter_files"
    found = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("runbook.yml", "inventory.yml")
    }
    found[SCHEMA_FILE] = json.dumps(json_schema(kinds), indent=2, ensure_ascii=False) + "\n"
    return found
