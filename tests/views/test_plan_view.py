"""The plan on a terminal, at two widths, without colour, and as JSON."""

from __future__ import annotations

import io
import json

import pytest

from runbook.model.dns import Change, RRset
from runbook.model.plan import Plan
from runbook.model.runbook import Budget
from runbook.planning.preview import StepPreview, preview
from runbook.planning.timeline import Timeline, build_timeline
from runbook.views.consoles import plain_console
from runbook.views.plan import Detail, plan_json, show_plan
from tests.planning.builders import KINDS, WINDOW, Book

WWW = RRset(name="www.shop.example.", rtype="A", ttl=3600, rdatas=("198.51.100.10",))


def _made() -> tuple[Plan, Timeline, dict[str, StepPreview]]:
    budget = Budget(name="outage", from_step="stop", from_edge="start", to_step="web",
                    to_edge="end", limit=15)
    plan = (
        Book(window=WINDOW, title="Move the shop", owner="ops@shop.example", budgets=(budget,))
        .step("ttl", at="window.start - 48h", title="Lower the [TTL]")
        .step("stop", not_before="window.start")
        .step("web", hosts="web", batch=(2,), after=("stop",), verify=({"http": "http://x/"},),
              args={"command": "reload {{ outputs.stop.text }} " + "very-long-word " * 8})
        .step("copy", after=("stop",), point_of_no_return=True)
        .step("lab", when=False)
        .plan()
    )
    previews = preview(plan, KINDS)
    ttl = previews["ttl"]
    previews["ttl"] = StepPreview(
        ttl.step, ttl.doings, ttl.late, ttl.when,
        (Change(before=WWW, after=WWW.with_ttl(60)),),
    )
    return plan, build_timeline(plan), previews


def _shown(width: int, encoding: str = "utf-8", detail: Detail | None = None) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    plan, timeline, previews = _made()
    show_plan(plan, timeline, previews, detail=detail,
              console=plain_console(stream, width=width))
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("width", [80, 100])
def test_it_says_everything_within_the_width(width: int) -> None:
    text = _shown(width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    flat = " ".join(text.split())
    for part in (
        "Move the shop (move)", "Sat 12 Sep 2009 01:00:00 EDT to 03:00:00 EDT, 2h",
        "Sat 12 Sep 2009 05:00:00 UTC", "5 steps, 6 nodes, 3 hosts", "Lower the [TTL]", "T-2d",
        "− www.shop.example. 3600 A 198.51.100.10", "+ www.shop.example. 60 A 198.51.100.10",
        "web run on 3 hosts, 2 at a time", "web1, web2, web3:", "$ reload ‹text of stop›",
        "filled in when it starts: text of stop", "verify http.check: url: http://x/",
        "POINT OF NO RETURN", "skipped: `when` is false", "Critical path: ttl → stop → web",
        "before the window closes.", "Going back takes up to", "fits the window from every step",
        "After copy not everything can be taken back.",
        "Budget outage: 30s by estimate, MORE than its 15s.",
    ):
        assert part in flat, f"{part!r} is missing in:\n{text}"


def test_parallel_steps_and_the_critical_path_are_marked() -> None:
    rows = {line.split()[-2 if " run" in line else -1]: line for line in _shown(100).splitlines()
            if " run" in line}
    assert "●" in next(line for line in rows.values() if " ttl " in line)
    web = next(line for line in rows.values() if " web " in line)
    copy = next(line for line in rows.values() if " copy " in line)
    assert "●∥" in web and "∥" in copy and "●" not in copy


def test_a_terminal_that_knows_ascii_alone() -> None:
    text = _shown(80, "ascii")
    assert text.isascii() and "*|" in text


def test_full_shows_more() -> None:
    assert "web1, web2, web3" in _shown(100, detail=Detail(full=True, hosts=True))


def test_json() -> None:
    plan, timeline, previews = _made()
    data = json.loads(json.dumps(plan_json(plan, timeline, previews)))
    assert data["digest"] == plan.digest
    web = next(step for step in data["steps"] if step["id"] == "web")
    assert web["hosts"] == ["web1", "web2", "web3"] and web["critical"]
    assert web["needs"] == [{"step": "stop", "output": "text"}]
    assert data["steps"][0]["changes"][0]["after"]["ttl"] == 60
    assert data["fit"]["fits_window"] is True
    assert data["budgets"] == [{"name": "outage", "limit": 15.0, "estimate": 30.0}]
    assert data["fit"]["no_way_back"] == ["copy", "web"]
