"""The example mail-mysql as it is shipped: what its plan says. The move itself is in the lab."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from runbook.cli.main import app
from runbook.engine.rollback import ancestors
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.plan import Plan
from runbook.planning import build_plan

MAIL = Path(__file__).parents[2] / "examples" / "mail-mysql"


def plan() -> Plan:
    kinds = registry()
    return build_plan(load_runbook(MAIL / "runbook.yml", kinds=kinds), kinds=kinds)


def test_the_new_side_takes_mail_after_it_has_all_and_every_name_server_leads_there() -> None:
    before_thaw = ancestors(plan(), "thaw")
    assert {"files/same", "promote", "mx", "addresses"} <= set(before_thaw)
    assert {"freeze", "quiet"} <= set(ancestors(plan(), "files/final"))
    assert "promote" in ancestors(plan(), "files/final"), "it takes the dead man's switch away"


def test_on_the_way_back_boxes_and_rows_go_home_before_the_old_side_opens() -> None:
    assert {"freeze", "quiet", "files/final", "promote"} <= set(ancestors(plan(), "west-quiet"))
    assert "west-quiet" in ancestors(plan(), "thaw"), "it waits once the west is frozen again"
    assert plan().by_id["files/final"].estimate_undo is not None


def test_one_update_moves_what_names_the_old_side_and_leaves_the_mx() -> None:
    said = CliRunner().invoke(app, ["plan", str(MAIL / "runbook.yml"), "--json"])
    assert said.exit_code == 0, said.output
    steps = {step["id"]: step for step in json.loads(said.stdout)["steps"]}
    moved = {(one["before"]["name"], one["before"]["rtype"]) for one in steps["flip"]["changes"]}
    assert moved == {("mail.shop.example.", "A"), ("mail.shop.example.", "AAAA"),
                     ("shop.example.", "TXT")}
    lowered = {(one["before"]["name"], one["before"]["rtype"])
               for one in steps["lower-ttl"]["changes"]}
    assert lowered == moved | {("smtp.shop.example.", "CNAME")}
