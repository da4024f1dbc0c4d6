"""Every runbook of the examples is valid and can be planned, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.wiring import load_plan

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNBOOKS = [
    file for file in sorted(EXAMPLES.glob("*/*.yml"))
    if file.read_text().lstrip("# \n").startswith("runbook:") or "\nrunbook:" in file.read_text()
]


@pytest.mark.parametrize("file", RUNBOOKS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_it_loads(file: Path) -> None:
    assert load_plan(file, []).steps


def test_they_are_all_found() -> None:
    assert {file.parent for file in RUNBOOKS} == {
        folder for folder in EXAMPLES.iterdir() if folder.is_dir()
    }
