"""Every runbook of the examples is valid and can be planned, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.wiring import load_plan, load_staging

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNBOOKS = [
    file for file in sorted(EXAMPLES.glob("*/*.yml"))
    if file.read_text().lstrip("# \n").startswith("runbook:") or "\nrunbook:" in file.read_text()
]


@pytest.mark.parametrize("file", RUNBOOKS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_it_loads(file: Path) -> None:
    assert load_plan(file, []).steps


def test_the_switchover_is_planned_for_staging_in_both_directions() -> None:
    """The same steps, and not one host or address of production."""
    file = EXAMPLES / "site-switchover" / "runbook.yml"
    live = load_plan(file, [])
    north, south = "198.18.1.", "198.18.2."
    for invert, first, last in ((False, north, south), (True, south, north)):
        plan = load_staging(file, [], invert=invert)
        assert [step.id for step in plan.steps] == [step.id for step in live.steps]
        addresses = {host.address for host in live.inventory.hosts}
        assert not [a for a in addresses if a in plan.model_dump_json()]
        flip = plan.by_id["wiki/flip"].nodes[0].args
        assert (str(flip["from"]).startswith(first), str(flip["to"]).startswith(last)) == (
            True, True), flip


def test_they_are_all_found() -> None:
    assert {file.parent for file in RUNBOOKS} == {
        folder for folder in EXAMPLES.iterdir() if folder.is_dir()
    }
