"""The section ``staging:``: what stands in the place of what, and where errors are said to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from runbook.errors import InvalidInput, Refused
from runbook.kinds import registry
from runbook.loading import ForStaging, load_runbook
from runbook.model.plan import Plan
from runbook.model.runbook import Moved, Runbook
from runbook.planning import build_plan

BOOK = """\
runbook: shop
window: {start: 2009-09-12 01:00, timezone: UTC, duration: 2h}
inventory:
  sites: {east: , west: }
  hosts:
    east-web: {address: 192.0.2.1, site: east, roles: [web]}
    west-web: {address: 192.0.2.2, site: west, roles: [web]}
vars: {old: 192.0.2.1, new: 192.0.2.2, note: "to {{ new }}", kept: same}
secrets: {db: {env: DB}, tsig: {env: TSIG}}
zones: {shop.example: {servers: [192.0.2.53], key: tsig}}
databases:
  east: {engine: postgres, host: east-web, password: db}
  west: {engine: postgres, host: west-web, password: db}
staging:
  inventory: stage.yml
  vars: {old: 198.51.100.1, new: 198.51.100.2}
  secrets: {db: {env: STAGE_DB}}
  zones: {shop.example: {servers: [198.51.100.53]}}
  databases:
    east: {engine: postgres, host: stage-1, via: stage-1}
    west: {engine: postgres, host: stage-2, via: stage-2}
  invert:
    vars: [[old, new]]
    sites: [[east, west]]
    hosts: [[stage-1, stage-2]]
    databases: [[east, west]]
  faults: true
steps:
  - {id: lower, kind: dns.ttl, at: window.start - 48h, with: {zone: shop.example, points_at: "{{ old }}", ttl: 60}}
  - {id: note, kind: file, hosts: east and web, at: "2009-09-12 01:30", with: {path: note, content: "{{ note }} {{ kept }}"}}
  - {id: ask, kind: sql.assert, with: {database: east, query: "select 1", equals: 1}}
  - {id: say, kind: notify.log, with: {message: "{{ window.start }} {{ secrets.db }}"}}
"""  # noqa: E501 - a step a line
STAGE = """\
sites: {east: {resolver: 198.51.100.4}, west: }
hosts:
  stage-1: {address: 198.51.100.1, site: east, roles: [web], jump: stage-2}
  stage-2: {address: 198.51.100.2, site: west, roles: [web]}
"""
START = 1252717200.0  # 2009-09-12 01:00 UTC


def read(
    tmp_path: Path, staging: ForStaging | None, *, book: str = BOOK,
    overrides: Mapping[str, str] | None = None,
) -> Runbook:
    (tmp_path / "book.yml").write_text(dedent(book))
    (tmp_path / "stage.yml").write_text(STAGE)
    return load_runbook(
        tmp_path / "book.yml", kinds=registry(), overrides=overrides, staging=staging
    )


def planned(tmp_path: Path, staging: ForStaging | None, *, book: str = BOOK) -> Plan:
    return build_plan(read(tmp_path, staging, book=book), kinds=registry())


def told(tmp_path: Path, book: str, staging: ForStaging | None) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        planned(tmp_path, staging, book=book)
    return [f"{one.position and (one.position.line, one.position.column)} {one.message}"
            for one in caught.value.diagnostics]


def test_production_is_as_if_nothing_were_said_of_staging(tmp_path: Path) -> None:
    before = BOOK[: BOOK.index("staging:")] + BOOK[BOOK.index("steps:"):]
    assert planned(tmp_path, None).digest == planned(tmp_path, None, book=before).digest


def test_the_sections_of_staging_stand_in_the_place_of_production_s(tmp_path: Path) -> None:
    plan = planned(tmp_path, ForStaging())
    assert [host.name for host in plan.inventory.hosts] == ["stage-1", "stage-2"]
    assert plan.by_id["note"].nodes[0].id == "note@stage-1"
    assert plan.by_id["note"].nodes[0].args["content"] == "to 198.51.100.2 same"
    assert plan.zones[0].servers == ("198.51.100.53",)
    assert plan.zones[0].key is None  # Nothing of production's zone is left in it.
    assert {one.name: one.argument for one in plan.secrets} == {"db": "STAGE_DB", "tsig": "TSIG"}
    assert [one.via for one in plan.databases] == ["stage-1", "stage-2"]
    assert plan.digest != planned(tmp_path, None).digest


def test_the_other_direction(tmp_path: Path) -> None:
    plan = planned(tmp_path, ForStaging(invert=True))
    east = plan.inventory.get("stage-1")
    assert east is not None
    # The machine that was stage-2 in the west, with its own address.
    assert (east.site, east.address, east.jump) == ("east", "198.51.100.2", None)
    west = plan.inventory.get("stage-2")
    assert west is not None
    assert (west.site, west.address, west.jump) == ("west", "198.51.100.1", "stage-1")
    assert {site.name: site.resolver for site in plan.inventory.sites} == {
        "east": None, "west": "198.51.100.4"}
    assert plan.by_id["note"].nodes[0].args["content"] == "to 198.51.100.1 same"
    assert {one.name: one.host for one in plan.databases} == {
        "east": "stage-1", "west": "stage-2"}


def test_a_variable_on_the_command_line_outweighs_staging_s(tmp_path: Path) -> None:
    assert read(tmp_path, ForStaging(), overrides={"new": "x"}).vars["new"] == "x"


def test_dates_are_moved_and_not_waited_for(tmp_path: Path) -> None:
    plan = planned(tmp_path, ForStaging(moved=Moved(by=1000.0, waited_for=False)))
    assert plan.window is not None
    assert plan.window.start == START + 1000
    assert [step.at for step in plan.steps] == [None] * 4
    assert plan.by_id["say"].nodes[0].args["message"].startswith("2009-09-12T01:16+00:00")


def test_dates_may_stay_as_far_from_each_other_as_they_are(tmp_path: Path) -> None:
    plan = planned(tmp_path, ForStaging(moved=Moved(by=1000.0, waited_for=True)))
    assert plan.by_id["lower"].at == START + 1000 - 48 * 3600
    assert plan.by_id["note"].at == START + 1000 + 1800


def test_there_has_to_be_a_staging(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nowhere to rehearse"):
        read(tmp_path, ForStaging(), book="runbook: a\nsteps: []\n")


def test_it_has_to_say_what_to_invert(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not say what to invert"):
        read(tmp_path, ForStaging(invert=True), book=BOOK.replace("  invert:", "  x:")
             .replace("  x:\n    vars: [[old, new]]\n    sites: [[east, west]]\n    hosts: "
                      "[[stage-1, stage-2]]\n    databases: [[east, west]]\n", ""))


def test_errors_of_staging_are_where_they_are_written(tmp_path: Path) -> None:
    book = BOOK.replace("servers: [198.51.100.53]", "servrs: [198.51.100.53]").replace(
        "new: 198.51.100.2}", 'new: "{{ nwe }}"}').replace("STAGE_DB}", "STAGE_DB, file: x}")
    assert told(tmp_path, book, ForStaging()) == [
        "(16, 38) unknown name `nwe`",
        "(17, 17) secret `db` wants exactly one of env, file and command",
        "(18, 26) unknown key `servrs` in zone `shop.example`",
    ]
    planned(tmp_path, None, book=book)  # No reason not to run it live.


def test_what_staging_does_not_have_is_not_production_s(tmp_path: Path) -> None:
    head, _, steps = BOOK.partition("steps:\n")
    start, end = head.index("  zones: {shop.example: {servers: [198"), head.index("  faults")
    book = head[:start] + head[end:] + "steps:\n" + steps.splitlines()[3]
    plan = planned(tmp_path, ForStaging(), book=book)
    assert (plan.zones, plan.databases) == ((), ())
    assert planned(tmp_path, None, book=book).databases


def test_what_steps_use_has_to_be_there(tmp_path: Path) -> None:
    book = BOOK.replace("shop.example: {servers: [198", "stage.example: {servers: [198").replace(
        "    east: {engine: postgres, host: stage-1, via: stage-1}\n", "").replace(
        "    databases: [[east, west]]\n", "")
    found = told(tmp_path, book.replace("hosts: east and web", "hosts: east-web"), ForStaging())
    assert [one.partition(") ")[2].partition(" of the")[0] for one in found] == [
        "there is no zone 'shop.example'", "'east-web' is no host, site, role or group",
        "there is no database 'east'",
    ]


def test_pairs_are_of_names_that_there_are(tmp_path: Path) -> None:
    book = BOOK.replace("sites: [[east, west]]", "sites: [[east, south]]").replace(
        "[[stage-1, stage-2]]", "[[stage-1, stage-3]]")
    assert told(tmp_path, book, ForStaging(invert=True)) == [
        "(24, 20) there is no site `south` in staging",
        "(25, 23) there is no host `stage-3` in staging",
    ]


def test_a_step_cannot_name_a_zone_that_is_not_declared(tmp_path: Path) -> None:
    book = BOOK.replace("with: {zone: shop.example", "with: {zone: shop.exmaple")
    assert "there is no zone 'shop.exmaple'" in told(tmp_path, book, None)[0]
