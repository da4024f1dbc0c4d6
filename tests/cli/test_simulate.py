"""Simulations as a user makes them: recorded, demanded by a policy, held against what came."""

from __future__ import annotations

import importlib.util
import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runbook.cli.simulated import Odds, foretell
from runbook.cli.wiring import load_plan
from runbook.engine.rehearsed import check_rehearsed
from runbook.errors import Refused
from runbook.journal import Rehearsal, open_store
from runbook.model.plan import Plan
from runbook.model.runbook import Policy, RehearsalPolicy
from tests.cli.running import runbook

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop-2009" / "runbook.yml"
BOOK = """\
runbook: small
policy: {rehearsal: {required: [simulate]}}
steps:
  - {id: a, kind: shell, with: {command: touch HERE/a, creates: HERE/a}, undo: rm HERE/a}
  - {id: b, kind: wait, with: {for: 0.2s}}
"""


def book(tmp_path: Path, text: str = BOOK) -> Path:
    path = tmp_path / "book.yml"
    path.write_text(text.replace("HERE", str(tmp_path)))
    return path


def report(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(runbook(tmp_path, "report", "--format", "json").stdout)
    return found


def test_foretold_demanded_run_and_held_against_what_came(tmp_path: Path) -> None:
    book(tmp_path)
    assert "demands a simulate rehearsal" in runbook(
        tmp_path, "run", "book.yml", "--yes", code=11).stderr
    told = json.loads(runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate", "--runs",
                              "1000", "--json").stdout)
    assert (told["level"], told["for"], told["ok"], told["runs"]) == (
        "simulate", "live", True, 1000)
    assert [s["basis"] for s in told["steps"]] == ["estimate", "known"]
    listed = json.loads(runbook(tmp_path, "rehearsals", "book.yml", "--json").stdout)
    assert listed["may_start"] is True
    assert [(r["level"], r["who"], r["ok"]) for r in listed["rehearsals"]] == [
        ("simulate", "ada", True)]

    runbook(tmp_path, "run", "book.yml", "--yes")
    first = report(tmp_path)["forecast"]
    assert first["earlier"]["numbers"] == 0
    (came,) = first["came"]
    assert came["what"] == "took"
    assert came["foretold"] == pytest.approx(told["took"], abs=0.1), "in tenths of a second"
    assert 0.2 <= came["actual"] < came["foretold"]["p05"], "an estimate of 5 s for a touch"

    # What was measured is what is foretold next, and the report of the next run says how good
    # the first prediction was. A prediction made after a run is never held against it.
    (tmp_path / "a").unlink()
    told = json.loads(runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate",
                              "--json").stdout)
    assert [(s["basis"], s["samples"]) for s in told["steps"]] == [("measured", 1)] * 2
    assert report(tmp_path)["forecast"]["came"] == [came]
    runbook(tmp_path, "run", "book.yml", "--yes")
    second = report(tmp_path)["forecast"]
    assert second["earlier"] == {"numbers": 1, "inside": 0, "in_time": 1}
    page = runbook(tmp_path, "report", "--format", "html").stdout
    assert "Foretold and come true" in page and "of 1 numbers 0 came between p5 and p95" in page
    text = runbook(tmp_path, "report").stdout
    assert "## Foretold and come true" in text and "| Took |" in text


def test_the_way_back_is_held_against_what_was_foretold_for_its_point(tmp_path: Path) -> None:
    book(tmp_path, BOOK + "  - {id: c, kind: assert, with: {command: 'false'}, "
                          "on_failure: rollback}\n")
    runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate")
    runbook(tmp_path, "run", "book.yml", "--yes", code=21)
    (came,) = report(tmp_path)["forecast"]["came"]
    assert (came["what"], came["step"]) == ("way back", "c")
    foretold = open_store(tmp_path / "state").rehearsals()[0].data["foretold"]
    assert came["foretold"] == foretold["back_out"]["c"]


def test_failures_that_were_seen_are_reckoned_with(tmp_path: Path) -> None:
    book(tmp_path, BOOK + "  - {id: c, kind: shell, with: {command: 'false'}}\n")
    runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate")
    runbook(tmp_path, "run", "book.yml", "--yes", code=20)
    seen = json.loads(runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate", "--json",
                              code=25).stdout)
    assert seen["outcomes"]["held"] == 1.0
    given = json.loads(runbook(
        tmp_path, "rehearse", "book.yml", "--level", "simulate", "--json", "--failure-rate", "0",
        "--failure-rate", "c=0.5", code=25).stdout)
    assert given["outcomes"]["held"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("rate", "code", "told"), [
    ("2", 2, "--failure-rate: '2'"), ("x", 2, "--failure-rate: 'x'"),
    ("nobody=0.5", 13, "no step 'nobody'"), ("a=-1", 2, "--failure-rate: 'a=-1'"),
])
def test_a_rate_that_cannot_be_meant_is_refused(
    tmp_path: Path, rate: str, code: int, told: str
) -> None:
    book(tmp_path)
    said = runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate", "--failure-rate", rate,
                   code=code)
    assert told in said.stderr


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [f"{name}={value}" for name, value in attrs
                         if name in {"src", "href", "srcset"} or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_example_fits_its_window_and_the_page_needs_nothing_else(tmp_path: Path) -> None:
    shown = runbook(tmp_path, "rehearse", str(EXAMPLE), "--level", "simulate", "--out",
                    "page.html", "--runs", "2000").stdout
    assert "The move fits its window" in shown
    assert "Decide by Sat 12 Sep 2009 01:5" in shown, "the TTLs are put back: an hour to wait"
    assert max(map(len, shown.splitlines())) <= 240
    page = _Page()
    page.feed((tmp_path / "page.html").read_text())
    assert page.fetched == []
    assert "script" not in page.tags
    assert page.tags.count("rect") > 60
    assert "decide by" in page.text and "window closes" in page.text


def test_without_a_window_it_tells_how_long_it_takes(tmp_path: Path) -> None:
    book(tmp_path)
    shown = runbook(tmp_path, "rehearse", "book.yml", "--level", "simulate", "--out",
                    "page.html").stdout
    assert "No window is announced" in shown and "Decide by" not in shown
    page = _Page()
    page.feed((tmp_path / "page.html").read_text())
    assert page.fetched == []
    assert "chance that going back" not in page.text


def test_without_numpy_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == "numpy" else found(name, *more))
    wanted = Odds(runs=100, seed=1, certainty=0.95, world="live", failure_rates=())
    with pytest.raises(Refused, match="numpy") as refused:
        foretell(load_plan(book(tmp_path), []), open_store(tmp_path / "state"), wanted)
    assert "runbook[simulate]" in refused.value.hint


def rehearsed(level: str, *, ok: bool = True, digest: str = "", ts: float = 0.0,
              **data: Any) -> Rehearsal:
    return Rehearsal(digest or Plan(runbook="r").digest, level, "", ts, "ada", ok,
                     {"runbook": "r", **data})


def plan(**policy: Any) -> Plan:
    return Plan(runbook="r", policy=Policy(rehearsal=RehearsalPolicy(**policy)))


@pytest.mark.parametrize(("required", "level", "enough"), [
    ("plan", "simulate", True), ("probe", "simulate", False), ("simulate", "sandbox", False),
    ("simulate", "simulate", True), ("sandbox", "simulate", False), ("sandbox", "staging", True),
])
def test_what_stands_in_for_a_demanded_rehearsal(required: str, level: str, enough: bool) -> None:
    demanding = plan(required=required)
    record = rehearsed(level, digest=demanding.digest)
    if enough:
        assert check_rehearsed(demanding, [record], now=1.0) == []
    else:
        with pytest.raises(Refused, match=f"demands a {required}"):
            check_rehearsed(demanding, [record], now=1.0)


def test_each_of_several_demanded_levels_has_to_be_there_and_fresh() -> None:
    demanding = plan(required=("simulate", "sandbox"), max_age=60.0)
    mine = demanding.digest
    sandbox = rehearsed("sandbox", digest=mine, ts=time.time())
    for other, why in (
        (rehearsed("simulate", digest=mine, ok=False, ts=sandbox.ts), "none is recorded"),
        (rehearsed("simulate", digest=mine, ts=sandbox.ts - 100), "at most 1m"),
        (rehearsed("simulate", digest="0" * 64, ts=sandbox.ts), "none is recorded"),
        (rehearsed("simulate", digest=mine, ts=sandbox.ts, **{"for": "sandbox"}), "none is"),
    ):
        with pytest.raises(Refused, match=why):
            check_rehearsed(demanding, [other, sandbox], now=sandbox.ts)
    with pytest.raises(Refused, match=r"a simulate .* a sandbox rehearsal") as both:
        check_rehearsed(demanding, [], now=1.0, file="the move.yml")
    assert both.value.hint == ("runbook rehearse 'the move.yml' --level simulate; "
                               "runbook rehearse 'the move.yml' --level sandbox")
    good = rehearsed("simulate", digest=mine, ts=sandbox.ts)
    assert check_rehearsed(demanding, [good, sandbox], now=sandbox.ts) == []


def test_where_any_version_will_do_another_one_is_told() -> None:
    lenient = plan(required="sandbox", same_digest=False)
    (warning,) = check_rehearsed(lenient, [rehearsed("sandbox", digest="a" * 64)], now=1.0)
    assert "another version" in warning and "aaaaaaaaaaaa" in warning
    with pytest.raises(Refused):
        check_rehearsed(lenient, [rehearsed("sandbox", digest="a" * 64, runbook="x")], now=1.0)
