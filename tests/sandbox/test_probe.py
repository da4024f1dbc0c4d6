"""Probing a world: what is seen of it, and what has changed in it since."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.levels import probe_world
from runbook.cli.wiring import build_world, load_plan, open_state, read_endpoints
from runbook.engine.probe import ProbeReport, drift_since, recorded
from runbook.journal import Rehearsal
from runbook.model.actions import ActionKey, ChangeRecordSet
from runbook.model.dns import Change
from runbook.sandbox.handle import start_world
from tests.sandbox.worlds import hurried

pytestmark = pytest.mark.slow


def test_the_shop_is_probed_and_what_somebody_changes_is_seen(tmp_path: Path) -> None:
    shop = hurried(tmp_path)
    plan = load_plan(shop / "runbook.yml", [])
    store = open_state(tmp_path / "state")
    with start_world(plan, shop / "sandbox.yml", tmp_path / "world") as world:
        endpoints = str(tmp_path / "world" / "endpoints.json")
        before = world.fingerprint()
        first = probe_world(plan, store, endpoints)
        assert world.diff(before, world.fingerprint()) == [], "a probe changes nothing"
        whole(first)
        told = Rehearsal(plan.digest, "probe", "", 1.0, "ada", first.ok,
                         {"runbook": plan.runbook, "seen": recorded(first)})
        again = drift_since(told, probe_world(plan, store, endpoints))
        assert again is not None and again.changed == ()

        world.run("west-web", "echo SITE=nowhere >shop.conf")
        somebody = build_world(plan, run_id="x", state=tmp_path / "state", epoch=1,
                               endpoints=read_endpoints(endpoints))
        zone = plan.zones[0]
        api = somebody.dns.get(zone, "api.shop.example.", "A")
        assert api is not None
        done = somebody.perform(
            ChangeRecordSet(zone=zone.called, changes=(
                Change(before=api, after=api.model_copy(update={"rdatas": ("192.0.2.9",)})),)),
            ActionKey(run="x", node="x", op="do", attempt=1, index=0), print,
        )
        assert done.ok, done.detail
        drift = drift_since(told, probe_world(plan, store, endpoints))
        somebody.close()
    assert drift is not None and drift.same_plan
    changed = {(one.step, one.what): (one.then, one.now) for one in drift.changed}
    assert changed[("west-settings", "exists")] == ("no", "yes")
    assert changed[("flip", "records api.shop.example. A rdatas")] == ("198.51.100.10",
                                                                       "not there")


def whole(report: ProbeReport) -> None:
    """What the first probe of the shop has to say."""
    assert report.ok and report.counts["read"] == 11 and report.counts["unknown"] == 0
    states = {(node.step, need.what): need.state for node in report.nodes for need in node.needs}
    assert states[("flip", "shop.example. takes our changes")] == "met"
    assert states[("west-start", "systemd obeys")] == "met"
    assert states[("west-code", "a login at west-web works from here by itself")] == "met"
    assert "unmet" not in states.values() and "unknown" not in states.values()
    # The folder that the step before makes.
    (folder,) = [one for one in states if one[0] == "west-closed" and "takes files" in one[1]]
    assert states[folder] == "skipped"
    by_step = {node.step: node.changes for node in report.nodes}
    assert by_step["west-start"] == ("shop: stopped → running",
                                     "shop: does not start at boot → starts at boot")
    assert {host.name: host.answers for host in report.hosts} == {
        "": True, "west-web": True, "east-web": True}
    assert all(abs(host.ahead or 0.0) < 1 for host in report.hosts)
    assert {cache.resolver: (cache.asked, cache.says) for cache in report.caches} == {
        "198.51.100.53": (7, ""), "203.0.113.53": (7, "")}
    assert report.secrets is not None and report.secrets.state == "met"
