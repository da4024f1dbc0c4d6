"""The shipped playbook dns/cutover, played in the embedded world."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.campaign import Campaign
from runbook.cli.coverage import parse_faults
from runbook.cli.embedded import embedded
from runbook.cli.session import Show, start
from runbook.cli.stages import Sandboxes
from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.journal import open_store

BOOK = """
runbook: move-zone
policy: {on_failure: rollback}
inventory: {hosts: {web: {address: 198.51.100.10}}}
secrets: {tsig: {env: TSIG}}
zones: {shop.example: {servers: [ns1.shop.example], key: tsig}}
steps:
  - id: dns
    playbook: dns/cutover
    with: {zone: shop.example, from: 198.51.100.10, to: 203.0.113.10, check: www}
  - id: tell
    kind: notify.log
    with: {message: "{{ outputs.dns.records }} records moved"}
"""
ZONE = """
$TTL 3600
@ SOA ns1 ops 1 3600 600 86400 300
@ NS ns1
ns1 A 198.51.100.53
@ A 198.51.100.10
www CNAME @
@ TXT "v=spf1 ip4:198.51.100.10 -all"
other A 192.0.2.7
"""
CONFIG = """
time: {scale: 60, longest_wait: 0.1s}
zones: {shop.example: zone}
secrets: {tsig: "key:hmac-sha256:c2FuZGJveC1vbmx5LW5vdC1hLXNlY3JldA=="}
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    for name, text in (("book.yml", BOOK), ("zone", ZONE), ("sandbox.yml", CONFIG)):
        (tmp_path / name).write_text(text)
    return tmp_path / "book.yml"


def test_the_zone_moves(book: Path, tmp_path: Path) -> None:
    plan = load_plan(book, [])
    store = open_store(tmp_path / "state")
    with embedded(plan, tmp_path / "sandbox.yml") as played:
        before = played.world.fingerprint()
        run_id, driven = start(plan, store, level="sandbox", show=Show.NOTHING,
                               endpoints_file=str(played.endpoints_file))
        changed = played.world.diff(before, played.world.fingerprint())
    assert driven.exit_code is ExitCode.OK, driven.why
    text = "\n".join(changed)
    assert "203.0.113.10" in text
    assert "192.0.2.7" not in text
    notes = [e.data["text"] for e in store.events(run_id) if e.kind == "note"]
    assert notes == ["info: 3 records moved"]


def test_whatever_step_fails_the_zone_is_as_before(book: Path, tmp_path: Path) -> None:
    plan, store = load_plan(book, []), open_store(tmp_path / "state")
    stages = Sandboxes(plan, store, tmp_path / "sandbox.yml")
    coverage = Campaign(plan, store, stages, parse_faults(["each-step"]), jobs=2).play()
    assert coverage.ok, [cell.why for cell in coverage.cells]
    assert coverage.restored == coverage.undoable == ("dns/lower", "dns/flip", "dns/restore")
    failed = {cell.step for cell in coverage.cells if cell.column == "fail"}
    assert failed == {row.step for row in coverage.steps}
