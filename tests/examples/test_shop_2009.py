"""The example as it is shipped: it plans, it moves the shop, it goes back, and loses nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runbook.cli.main import app
from runbook.engine.rollback import ancestors
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.plan import Plan
from runbook.planning import build_plan
from runbook.sandbox.config import load_config
from tests.sandbox.worlds import SHOP


def plan(folder: Path = SHOP) -> Plan:
    kinds = registry()
    return build_plan(load_runbook(folder / "runbook.yml", kinds=kinds), kinds=kinds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example in which waits are short."""
    copy = tmp_path / "shop-2009"
    shutil.copytree(SHOP, copy, ignore=shutil.ignore_patterns(".runbook", "__pycache__"))
    config = copy / "sandbox.yml"
    text = config.read_text()
    assert "longest_wait: 3s" in text
    config.write_text(text.replace("longest_wait: 3s", "longest_wait: 0.5s"))
    return copy


def without_steps(folder: Path, *steps: str) -> None:
    """Take steps, and what measures them, out of the copy."""
    path = folder / "runbook.yml"
    text = re.sub(r"budgets:\n(  .*\n)+", "", path.read_text())
    for step in steps:
        text, count = re.subn(rf"  - id: {step}\n(    .*\n)+", "", text)
        assert count == 1, step
    path.write_text(text)


def rehearse(folder: Path, *options: str) -> dict[str, Any]:
    said = subprocess.run(
        [sys.executable, "-m", "runbook", "rehearse", "runbook.yml", "--level", "sandbox",
         "--json", "--state", str(folder / "state"), *options],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )
    assert said.stdout.startswith("{"), said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_it_plans_and_finds_every_record_that_moves() -> None:
    steps = plan().by_id
    assert list(steps)[:3] == ["records", "lower-ttl", "lowered"]
    assert plan().window is not None
    assert plan().digest == plan().digest


def test_its_sandbox_fits_its_inventory() -> None:
    config = load_config(SHOP / "sandbox.yml")
    hosts = {host.name: host for host in plan().inventory.hosts}
    for name, host in config.hosts.items():
        assert host.addresses == [hosts[name].address]
    assert {secret.name for secret in plan().secrets} == set(config.secrets)


def test_the_move_loses_no_order_and_pages_always_load(folder: Path) -> None:
    said = rehearse(folder)
    assert (said["ok"], said["phase"]) == (True, "done"), said["why"]
    judged = said["judgement"]
    assert judged["writes_acknowledged"] > 20
    assert judged["writes_lost"] == 0
    assert judged["read_outage"]["count"] == 0, judged["first_errors"]
    assert judged["reads_fallback"] > 0
    assert judged["write_outage"]["count"] >= 1
    assert judged["write_outage"]["longest_virtual"] < 600, "the announced limit"
    assert set(judged["served_by"]) == {"198.51.100.10", "203.0.113.10"}


@pytest.mark.parametrize("step", ["final-sync", "thaw", "moved"])
def test_whichever_way_the_night_ends_nothing_is_lost(folder: Path, step: str) -> None:
    said = rehearse(folder, "--fail", step)
    assert said["phase"] == "rolled_back", said["why"]
    assert said["changed"] == [], "the world is as it was"
    assert said["judgement"]["writes_lost"] == 0
    assert said["judgement"]["writes_acknowledged"] > 20
    assert said["judgement"]["read_outage"]["count"] == 0, said["judgement"]["first_errors"]
    assert said["ok"] is True


def test_the_plan_shows_that_the_way_back_waits_for_the_caches() -> None:
    steps = plan().by_id
    assert steps["west-stays"].estimate_undo == 65
    assert "west-start" in steps["west-stays"].after
    assert "west-stays" in ancestors(plan(), "flip")
    assert "west-stays" in ancestors(plan(), "freeze"), "the east opens before the wait"
    said = CliRunner().invoke(app, ["plan", str(SHOP / "runbook.yml"), "--json"])
    back = {step["id"]: step["back_out"] for step in json.loads(said.stdout)["steps"]}
    assert back["west-stays"] == back["west-start"], "before the flip nobody has to wait"
    assert 65 <= back["flip"] - back["west-complete"] < 75, "after it as long as the low TTL"
    assert 3600 < back["restore-ttl"] < 3800, "and after the TTLs went back an hour"


def test_without_the_freeze_orders_are_lost_and_nobody_sees_an_error(folder: Path) -> None:
    without_steps(folder, "freeze", "frozen", "pages", "west-closed", "thaw")
    said = rehearse(folder)
    assert said["phase"] == "done", said["why"]
    assert said["judgement"]["errors"] == 0
    assert said["judgement"]["writes_lost"] > 0
    assert said["ok"] is False, "and the rehearsal says so"
