"""An example as it is shipped, played in its sandbox as an operator would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from runbook.cli.wiring import load_plan
from runbook.model.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan_of(example: str, file: str = "runbook.yml") -> Plan:
    return load_plan(EXAMPLES / example / file, [])


def rehearse(
    example: str, state: Path, *options: str, file: str = "runbook.yml"
) -> dict[str, Any]:
    said = subprocess.run(
        [sys.executable, "-m", "runbook", "rehearse", file, "--level", "sandbox", "--json",
         "--state", str(state), *options],
        cwd=EXAMPLES / example, capture_output=True, text=True, timeout=120, check=False,
    )
    assert said.stdout.startswith("{"), said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found
