"""``runbook plan`` on a whole folder: YAML, inventory, zone file, every real kind it names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RUNBOOK = """\
runbook: small
title: Move a little
window: {start: 2009-09-12 01:00, timezone: America/New_York, duration: 2h}
inventory: hosts.yml
vars: {old: 198.51.100.10, new: 203.0.113.10, count: 1}
zones: {shop.example: {servers: [192.0.2.53], file: shop.zone}}
steps:
  - id: ttl
    kind: dns.ttl
    with: {zone: shop.example, points_at: "{{ old }}", ttl: 60}
  - id: waited
    kind: dns.wait_ttl
    with: {of: ttl}
  - id: work
    kind: shell
    hosts: role=web
    with: {command: "echo n={{ count }} {{ host.address }}"}
    outputs: {seen: {take: regex, pattern: 'n=(.*)'}}
    verify:
      - {tcp: "{{ new }}:80"}
      - {that: "count == 1"}
  - id: flip
    kind: dns.flip
    with: {zone: shop.example, from: "{{ old }}", to: "{{ new }}"}
    when: outputs.work.by_host['web1'].seen == '1'
"""
HOSTS = """\
hosts:
  web1: {address: 203.0.113.10, roles: [web]}
  web2: {address: 203.0.113.11, roles: [web]}
"""
ZONE = """\
$TTL 3600
@ SOA ns1 hostmaster 1 3600 600 86400 300
@ NS ns1
ns1 A 192.0.2.53
www A 198.51.100.10
"""


def _plan(
    folder: Path, *options: str, text: str = RUNBOOK, command: str = "plan"
) -> subprocess.CompletedProcess[str]:
    (folder / "hosts.yml").write_text(HOSTS)
    (folder / "shop.zone").write_text(ZONE)
    (folder / "move.yml").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "runbook", command, str(folder / "move.yml"), *options],
        capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8",
             "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_it_shows_commands_and_differences(tmp_path: Path) -> None:
    done = _plan(tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (
        "− www.shop.example. 3600 A 198.51.100.10", "+ www.shop.example. 60 A 198.51.100.10",
        "+ www.shop.example. 60 A 203.0.113.10", "echo n=1 203.0.113.11",
        "only when outputs.work.by_host['web1'].seen == '1'", "before the window closes",
    ):
        assert part in done.stdout, done.stdout


def test_json_and_graphs(tmp_path: Path) -> None:
    data = json.loads(_plan(tmp_path, "--json").stdout)
    assert [step["id"] for step in data["steps"]] == ["ttl", "waited", "work", "flip"]
    assert data["steps"][3]["changes"][0]["after"]["rdatas"] == ["203.0.113.10"]
    assert _plan(tmp_path, "--graph", "mermaid").stdout.startswith("flowchart TD\n")
    assert _plan(tmp_path, "--graph", "dot").stdout.startswith('digraph "small" {')


def test_faults_come_with_their_place_and_the_codes_of_bad_input(tmp_path: Path) -> None:
    bad = RUNBOOK.replace("role=web", "role=wbe").replace("of: ttl", "of: tll")
    done = _plan(tmp_path, text=bad)
    assert done.returncode == 10
    assert "move.yml:16:12: error: 'role=wbe' is no host" in done.stderr
    assert "did you mean 'web'?" in done.stderr
    assert "move.yml:13:16: error: there is no step 'tll'" in done.stderr
    assert "nothing was touched" in done.stderr


DRAINED = """\
runbook: drained
window: {start: 2009-09-12 01:00, timezone: America/New_York, duration: 1h}
zones: {shop.example: {servers: [192.0.2.53]%s}}
steps:
  - {id: ttl, kind: dns.ttl, with: {zone: shop.example, points_at: 198.51.100.10, ttl: 60}}
  - {id: stays, kind: dns.wait_back, with: {zone: shop.example, points_at: 203.0.113.10}}
  - {id: lowered, kind: dns.wait_ttl, with: {of: ttl}}
  - id: flip
    kind: dns.flip
    not_before: window.start
    with: {zone: shop.example, from: 198.51.100.10, to: 203.0.113.10}
"""


def test_it_promises_no_window_that_the_old_ttl_does_not_fit(tmp_path: Path) -> None:
    """As ``rehearse --level simulate`` reckons: the old TTL is in the zone file."""
    text = DRAINED % ", file: shop.zone"
    done = _plan(tmp_path, text=text)
    assert "1h lowered" in " ".join(done.stdout.split()), done.stdout
    assert "does NOT fit the window" in done.stdout and "uess" not in done.stdout
    early = _plan(tmp_path, text=text.replace("ttl, kind", "ttl, at: window.start - 2h, kind"))
    flat = " ".join(early.stdout.split())
    assert "59m 57s before the window closes." in flat, "it began to wait early"
    data = json.loads(_plan(tmp_path, "--json", text=text).stdout)
    assert data["steps"][2]["estimate"] == 3604 and data["fit"]["margin"] < 0


def test_a_wait_that_is_not_known_is_called_a_guess(tmp_path: Path) -> None:
    flat = " ".join(_plan(tmp_path, text=DRAINED % "").stdout.split())
    for part in ("~1m lowered", "closes, IF the guess below is right.",
                 "how long is waited by lowered (1m):", "on the way back by stays:",
                 "A `file:` of the zone tells"):
        assert part in flat, flat


def test_an_address_that_the_zone_does_not_hold_is_warned_of(tmp_path: Path) -> None:
    text = DRAINED % ", file: shop.zone"
    wrong = text.replace("from: 198.51.100.10", "from: [198.51.100.10, 198.51.100.99]").replace(
        "to: 203.0.113.10", "to: [203.0.113.10, 203.0.113.99]")
    warning = "no record of shop.example holds 198.51.100.99"
    assert f"warning: {warning}" in _plan(tmp_path, text=wrong).stdout
    data = json.loads(_plan(tmp_path, "--json", text=wrong).stdout)
    assert [one["warnings"] for one in data["steps"]] == [[], [], [], [warning]]
    told = _plan(tmp_path, text=wrong, command="validate").stdout
    assert f"warning: move.yml:8: step flip: {warning}" in told and "\nok: 4 steps" in told
    assert "warning" not in _plan(tmp_path, text=text, command="validate").stdout


def test_validate_reads_the_zone_file(tmp_path: Path) -> None:
    text = (DRAINED % ", file: shop.zone").replace("shop.zone", "hosts.yml")
    done = _plan(tmp_path, text=text, command="validate")
    assert done.returncode == 10 and "is not a zone file of shop.example." in done.stderr


def test_a_variable_can_be_set(tmp_path: Path) -> None:
    done = _plan(tmp_path, "--var", "count=2")
    assert done.returncode == 0, done.stderr
    assert "echo n=2 203.0.113.11" in done.stdout
