"""Good runbooks: what they become."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runbook.model.runbook import OutputSpec, Poll, Retry
from runbook.model.secrets import SecretRef, mark
from tests.loading.conftest import Faults, Load

HEAD = """
runbook: shop
inventory:
  sites: {east: {}, west: {}}
  hosts:
    e1: {address: 192.0.2.1, site: east, roles: [db], vars: {disk: sda}}
    w1: {address: 192.0.2.2, site: west, roles: [db]}
"""


def steps(*ids: str) -> str:
    return "steps:\n" + "".join(
        f"  - id: {one}\n    kind: shell\n    with: {{command: 'true'}}\n" for one in ids
    )


def test_header(load: Load) -> None:
    found = load("""
runbook: shop
title: "Move {{ what }}"
owner: ops
window: {start: 2009-09-12 01:00, timezone: America/New_York, duration: "{{ hours }}h",
         announce_in: UTC}
policy: {on_failure: rollback, on_breach: hold, max_parallel: 4,
         rehearsal: {required: sandbox, max_age: 7d}, outside_window: refuse}
budgets: {outage: {from: a.start, to: b.end, limit: "{{ limit }}", on_breach: rollback}}
vars: {what: the shop, hours: 2, limit: 10m}
secrets: {tsig: {env: TSIG}, db: {command: [pass, show, db]}, key: {file: k}}
zones: {Shop.Example: {servers: ns1.shop.example, key: tsig}}
""" + steps("a", "b"))
    assert found.title == "Move the shop"
    assert found.window is not None
    assert (found.window.start, found.window.duration) == (1252731600.0, 7200.0)
    assert found.window.announce_in == ("UTC",)
    assert found.policy.on_failure == "rollback"
    assert found.policy.rehearsal.required == "sandbox"
    assert found.policy.rehearsal.max_age == 7 * 86400
    assert (found.policy.max_parallel, found.policy.outside_window) == (4, "refuse")
    budget = found.budgets[0]
    assert (budget.from_step, budget.from_edge, budget.to_step, budget.to_edge, budget.limit) == (
        "a", "start", "b", "end", 600.0
    )
    assert found.secrets[1] == SecretRef(
        name="db", source="command", argument=("pass", "show", "db")
    )
    assert found.zones[0].name == "shop.example."
    assert found.zones[0].servers == ("ns1.shop.example",)
    assert found.directory.is_absolute()


def test_window_takes_an_offset_in_place_of_a_zone(load: Load) -> None:
    found = load(
        "runbook: a\nwindow: {start: 2009-11-01T01:30-05:00, duration: 90m}\n" + steps("a")
    )
    assert found.window is not None
    assert found.window.start == 1257057000.0
    assert found.window.timezone == "UTC"


def test_every_key_of_a_step(load: Load) -> None:
    found = load(HEAD + """
window: {start: 2009-09-12 01:00, timezone: UTC, duration: 2h}
vars: {pause: 5s}
steps:
  - id: one
    title: "One {{ item }}"
    kind: shell
    with: {command: "echo {{ host.disk }} {{ item }}"}
    hosts: [e1, w1]
    expect_hosts: 2
    foreach: [1, 2]
    when: hosts.count('db') > 1
    at: window.start - 1h
    not_before: 2009-09-12 00:00
    retry: {times: 3, wait: "{{ pause }}", backoff: 2}
    timeout: 5m
    poll: {every: 2s, timeout: 1m, stable: 3}
    batch: 50%
    max_failures: 1
    run_as: root
    requires: [{command: "true"}]
    verify: [{http: "http://{{ host.address }}/"}]
    undo: rm x
    on_failure: ask
    severity: warning
    outputs: {rows: {take: regex, pattern: 'rows=(\\d+)', type: int}, all: stdout}
    tags: [db]
    owner: dba
    estimate: 3m
    point_of_no_return: true
    rehearse: {rows: 5}
""")
    step = found.steps[0]
    assert step.args == {"command": "echo {{ host.disk }} {{ item }}"}
    assert step.hosts == ["e1", "w1"]
    assert step.foreach == [1, 2]
    assert step.retry == Retry(times=3, wait=5.0, backoff=2.0)
    assert step.poll == Poll(every=2.0, timeout=60.0, stable=3)
    assert (step.timeout, step.estimate, step.batch) == (300.0, 180.0, ("50%",))
    assert step.outputs["rows"] == OutputSpec(take="regex", pattern=r"rows=(\d+)", type="int")
    assert step.outputs["all"] == OutputSpec(take="stdout")
    assert (step.on_failure, step.severity, step.undo) == ("ask", "warning", "rm x")
    assert step.at == "window.start - 1h"
    assert step.point_of_no_return
    assert step.after == ()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", Retry(times=3)),
        ("{times: 2}", Retry(times=2)),
        ("{times: 1, wait: 1m}", Retry(times=1, wait=60.0)),
    ],
)
def test_retry(load: Load, written: str, expected: Retry) -> None:
    found = load("runbook: a\n" + steps("a") + f"    retry: {written}\n")
    assert found.steps[0].retry == expected


def test_undo_that_is_no_command(load: Load) -> None:
    found = load(
        "runbook: a\n" + steps("a") + "    undo: false\n"
        + steps("b").removeprefix("steps:\n") + "    undo: {irreversible: mail is sent}\n"
    )
    assert found.steps[0].undo is False
    assert found.steps[1].undo == {"irreversible": "mail is sent"}


def test_order_is_the_written_one(load: Load) -> None:
    found = load("runbook: a\n" + steps("a", "b", "c"))
    assert [(s.id, s.after) for s in found.steps] == [("a", ()), ("b", ("a",)), ("c", ("b",))]


def test_parallel_group(load: Load) -> None:
    one = "kind: shell, with: {command: 'true'}"
    found = load(f"""
runbook: a
steps:
  - {{id: first, {one}}}
  - id: both
    parallel:
      - {{id: left, {one}}}
      - {{id: right, {one}}}
      - {{id: early, {one}, after: []}}
  - {{id: last, {one}}}
  - {{id: again, {one}, after: [both, first]}}
""")
    assert {s.id: s.after for s in found.steps} == {
        "first": (), "left": ("first",), "right": ("first",), "early": (),
        "last": ("left", "right", "early"), "again": ("left", "right", "early", "first"),
    }
    assert found.steps[2].path == ("steps", 1, "parallel", 1)


def test_variables_use_each_other_hosts_and_secrets(load: Load) -> None:
    found = load(HEAD + """
secrets: {db: {env: DB}}
vars:
  name: shop
  primary: "{{ hosts.one('east and db') }}"
  port: 5432
  dsn: "postgres://{{ name }}:{{ secrets.db }}@{{ primary.address }}:{{ vars.port }}"
  same: "{{ port }}"
  nested: {list: ["{{ name }}-1", "{{ hosts.all('db') }}"]}
""" + steps("a"))
    assert found.vars["primary"] == "e1"
    assert found.vars["dsn"] == f"postgres://shop:{mark('db')}@192.0.2.1:5432"
    assert found.vars["same"] == 5432
    assert found.vars["nested"] == {"list": ["shop-1", ["e1", "w1"]]}
    assert list(found.vars) == ["name", "primary", "port", "dsn", "same", "nested"]


def test_overrides_keep_the_type(load: Load) -> None:
    text = "runbook: a\nvars: {n: 1, f: false, s: x, t: \"{{ s }}!\"}\n" + steps("a")
    found = load(text, {"n": "5", "f": "true", "s": "{{ n }}"})
    assert found.vars == {"n": 5, "f": True, "s": "{{ n }}", "t": "{{ n }}!"}


def test_bad_overrides(faults: Faults) -> None:
    text = "runbook: a\nvars: {n: 1, l: [a]}\n" + steps("a")
    assert faults(text, {"m": "1", "n": "x", "l": "b"}) == [
        "--var m: the runbook has no variable `m`",
        "2:11 --var n: a whole number is wanted, not 'x'",
        "2:17 --var l: the variable is a list; only single values can be set",
    ]


def test_inventory_file_can_depend_on_a_variable(load: Load) -> None:
    text = "runbook: a\nvars: {env: test}\ninventory: \"{{ env }}.yml\"\n" + steps("a")
    files = {"test.yml": "hosts: {t: {}}\n", "live.yml": "hosts: {l: {}}\n"}
    assert [h.name for h in load(text, None, files).inventory.hosts] == ["t"]
    assert [h.name for h in load(text, {"env": "live"}, files).inventory.hosts] == ["l"]


def test_playbooks_are_found_and_nested(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "inner.yml").write_text(
        "playbook: inner\nparameters: {x: {default: '{{ params.x }}'}}\n" + steps("s")
        + "outputs: {y: '{{ outputs.s.probe }}'}\n", encoding="utf-8",
    )
    monkeypatch.setenv("RUNBOOK_PLAYBOOKS", str(shared))
    found = load(
        "runbook: a\nbudgets: {b: {from: call.start, to: call/deep/s.end, limit: 1m}}\n"
        "steps:\n  - id: call\n    playbook: db/outer\n    with: {target: h}\n",
        None,
        {"playbooks/db/outer.yml": """
            playbook: db/outer
            title: Outer
            parameters:
              target: {help: The host}
              wait: {default: 5s}
            steps:
              - id: deep
                playbook: inner
              - id: stop
                kind: shell
                with: {command: "stop {{ target }} {{ params.wait }} {{ outputs.deep.y }}"}
            outputs: {done: "{{ outputs.stop.probe }}"}
        """},
    )
    assert set(found.playbooks) == {"db/outer", "inner"}
    outer = found.playbooks["db/outer"]
    assert [(p.name, p.required, p.default) for p in outer.parameters] == [
        ("target", True, None), ("wait", False, "5s")
    ]
    assert outer.steps[1].after == ("deep",)
    assert outer.steps[1].position("with", "command").line == 12
    assert outer.outputs == {"done": "{{ outputs.stop.probe }}"}


def test_positions_point_at_values_and_keys(load: Load) -> None:
    found = load("runbook: a\nvars:\n  x: &a [1, {k: v}]\n  y: *a\n" + steps("one"))
    source = found.source
    assert str(source.at(("vars", "x", 1, "k"))).endswith(":3:17")
    assert str(source.key_at(("vars", "x", 1, "k"))).endswith(":3:14")
    assert str(source.at(("vars", "y", 0))).endswith(":3:10")
    assert source.at(("steps", 0, "with", "command")).length == 6
    assert found.steps[0].position("with", "nothing").line == 8


def test_what_only_planning_knows_is_left_alone(faults: Faults) -> None:
    """Types of values with templates in them, and names that a template copes without."""
    assert faults(HEAD + """
vars: {ttl: 60}
steps:
  - id: one
    kind: gate.approve
    with: {quorum: "{{ ttl }}", roles: "{{ [ttl] }}"}
  - id: two
    kind: shell
    hosts: all
    with:
      command: "echo {{ nothing | default('x') }} {{ host.none is defined }}"
      ok_codes: [0, "{{ ttl }}"]
""") == []


def test_a_literal_with_a_wrong_type_beside_a_template(faults: Faults) -> None:
    assert faults("""
runbook: a
vars: {q: ask}
steps:
  - id: one
    kind: gate.approve
    with: {question: "{{ q }}", quorum: many}
""") == ["7:41 `quorum` wants a whole number, not the text 'many'"]


def test_large_runbooks_load_fast(load: Load) -> None:
    text = "runbook: a\nvars: {old: 1}\n" + steps(*(f"s{n}" for n in range(1000)))
    started = time.process_time()
    found = load(text.replace("'true'", "'echo {{ old }}'"))
    assert len(found.steps) == 1000
    assert time.process_time() - started < 3.0
