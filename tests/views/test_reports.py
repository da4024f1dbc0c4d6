from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runbook.engine.report import build_report
from runbook.engine.report_model import Report
from runbook.views.axis import Axis
from runbook.views.report_html import render_html
from runbook.views.report_md import render_markdown
from runbook.views.timeline import build_timeline
from runbook.views.times import zone_of
from tests.views import story
from tests.views.story import START, Story, shop_plan, step

GOLDEN = Path(__file__).parent / "golden"
TALES = [story.done, story.rolled_back, story.not_restored, story.in_doubt, story.gate_open,
         story.over_budget, story.two_days, story.many]


def report(told: Story, **more: Any) -> Report:
    return build_report(told.state, told.events, now=told.now, **more)


@pytest.mark.parametrize("name", ["done", "rolled_back", "not_restored"])
def test_markdown_is_the_golden_one(name: str) -> None:
    """To renew after a wanted change: write ``render_markdown(...)`` into the golden file."""
    told = getattr(story, name)()
    assert render_markdown(report(told)) == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")


def test_markdown_escapes_what_hosts_say() -> None:
    told = story.to_the_flip().intent("flip")
    told.add("failed", "flip", 1, "do", error="a|b\n# <script>alert(1)</script> `x` *y*")
    text = render_markdown(report(told))
    assert "<script" not in text and "\n# &lt;" not in text
    assert r"a\|b # &lt;script&gt;alert(1)&lt;/script&gt; \`x\` \*y\*" in text


class _Page(HTMLParser):
    """Collects what a browser would fetch or run, and checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            f"{tag} {name}={value}" for name, value in attrs
            if name in {"src", "href", "srcset", "data", "action"} or name.startswith("on")
        ]
        if tag not in {"meta", "br", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(told: Story, **more: Any) -> _Page:
    parser = _Page()
    parser.feed(render_html(report(told, **more)))
    assert parser.open == []
    return parser


@pytest.mark.parametrize("tell", TALES)
def test_page_needs_nothing_else(tell: Any) -> None:
    told = tell()
    got = page(told, judgement={"write_outage": 12.0, "lost": 0})
    assert got.fetched == []
    assert not {"script", "link", "img", "iframe", "object"} & set(got.tags)
    text = render_html(report(told))
    urls = set(re.findall(r"(?:https?:)?//[^\s\"'<)]+", text))
    assert urls == {"http://www.w3.org/2000/svg"}  # the name of SVG, which nobody fetches
    assert re.findall(r"url\(([^)]*)\)", text) == ["#hatch"]
    assert "@import" not in text


def test_page_escapes_a_script_in_a_title() -> None:
    evil = '<script>alert("x")</script>'
    plan = shop_plan(
        title=evil, budgets=(), steps=(step("a", title=evil, owner=evil), step("b", "a")),
    )
    told = Story(plan).do("a", 3, evil).add("note", "a", text=evil)
    told.add("decision", "a", verb="skip", who=evil, role=evil, why=evil)
    told.intent("b").add("failed", "b", 1, "do", error=f"{evil}'\"")
    text = render_html(report(told, judgement={evil: evil}))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert page(told).fetched == []


def test_page_is_labelled() -> None:
    text = render_html(report(story.rolled_back()))
    assert '<html lang="en">' in text and 'role="img"' in text
    labels = re.findall(r'aria-labelledby="([^"]+)"', text)
    ids = set(re.findall(r'id="([^"]+)"', text))
    assert labels and all(set(label.split()) <= ids for label in labels)
    assert "undo of promote" in text and "prefers-color-scheme: dark" in text
    assert "@media print" in text


def _contrast(one: str, two: str) -> float:
    def light(colour: str) -> float:
        full = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_can_be_read(scheme: int) -> None:
    """WCAG 2.1, 1.4.3: text 4.5:1; 1.4.11: graphics 3:1."""
    css = render_html(report(story.done()))
    blocks = re.findall(r":root \{([^}]*--ink[^}]*)\}", css)
    assert len(blocks) == 2
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", blocks[scheme]))
    for text in ("ink", "soft", "done", "bad", "warn", "errored", "doubt", "going", "put-back"):
        assert _contrast(colour[text], colour["sheet"]) >= 4.5, text
    for text, ground in (("done", "good-bg"), ("bad", "bad-bg"), ("warn", "mixed-bg"),
                         ("going", "open-bg")):
        assert _contrast(colour[text], colour[ground]) >= 4.5, text
    assert _contrast(colour["undo"], colour["sheet"]) >= 3.0


def test_timeline_geometry() -> None:
    told = story.rolled_back()
    line = build_timeline(report(told))
    assert line is not None
    rows = {row.label: row for row in line.rows}
    flip = rows["flip"]
    assert flip.actual is not None and flip.undo is not None and flip.planned is not None
    assert flip.actual.css == "bad" and flip.undo.css == "undo"
    assert flip.actual.x + flip.actual.width <= flip.undo.x
    assert rows["promote"].actual is not None and not rows["promote"].actual.critical
    assert rows["promote"].undo is not None and rows["promote"].undo.critical
    assert rows["thaw"].actual is None and rows["thaw"].planned is not None
    assert len(line.decisions) == 3 and len(line.bands) == 1 and len(line.incidents) == 2
    for row in line.rows:
        for bar in (row.planned, row.actual, row.undo):
            assert bar is None or (line.left <= bar.x and bar.x + bar.width <= line.width)


def test_axis_is_to_scale_where_nothing_is_cut() -> None:
    axis = Axis([0.0, 10.0, 15.0, 40.0], 100.0, 400.0)
    assert axis.cuts == []
    assert (axis.x(0), axis.x(10), axis.x(40)) == (100.0, 200.0, 500.0)
    assert (axis.x(-5), axis.x(99)) == (100.0, 500.0)


def test_axis_cuts_every_idle_stretch_short() -> None:
    """Two days, then six hours until the window: the work has nearly all of the width."""
    day, hour = 86400.0, 3600.0
    ran = [(0.0, 5.0), (2 * day, 2 * day + 100)]
    ran += [(2 * day + 6 * hour + i * 100, 2 * day + 6 * hour + i * 100 + 100) for i in range(9)]
    axis = Axis([], 0.0, 1000.0, ran=ran)
    assert [cut.seconds for cut in axis.cuts] == [2 * day - 5, 6 * hour - 100]
    window = 2 * day + 6 * hour
    assert axis.x(window + 900) - axis.x(window) > 800
    places = [axis.x(moment) for span in ran for moment in span]
    assert places == sorted(places)
    (first, second) = axis.cuts
    assert first.width == second.width < 40


def test_axis_cuts_a_wait_inside_a_step_only_where_it_hides_the_others() -> None:
    short = [(float(i), i + 1.0) for i in range(8)]
    assert [cut.seconds for cut in Axis([], 0.0, 800.0, ran=[*short, (8.0, 3608.0)]).cuts] == [3600]
    assert Axis([], 0.0, 800.0, ran=[*short, (8.0, 60.0)]).cuts == []
    assert Axis([], 0.0, 800.0, ran=[(0.0, 1.0), (1.0, 3601.0)]).cuts == []


def test_axis_draws_a_short_step_so_that_it_can_be_seen() -> None:
    """13 ms beside ten minutes; and what is long enough stays to scale."""
    ran = [(0.0, 0.013), (0.013, 0.020), (0.020, 600.0), (600.0, 900.0)]
    axis = Axis([], 0.0, 1000.0, ran=ran)
    widths = [axis.x(end) - axis.x(start) for start, end in ran]
    assert widths[0] == widths[1] == 12.0
    assert widths[2] / (600.0 - 0.020) == pytest.approx(widths[3] / 300.0) == axis.scale
    assert axis.widened_below == pytest.approx(12.0 / axis.scale)
    assert sum(widths) == pytest.approx(1000.0)


def test_axis_has_room_for_thousands_of_steps() -> None:
    ran = [(i * 100.0, i * 100.0 + 1.0) for i in range(3000)]
    axis = Axis([], 0.0, 900.0, ran=ran)
    assert axis.cuts == []
    assert axis.x(299901.0) == pytest.approx(900.0)
    assert all(axis.x(end) > axis.x(start) for start, end in ran)


def test_axis_does_not_cut_an_even_run_with_one_tiny_step() -> None:
    assert Axis([0.0, 0.001, 1.0, 2.0, 3.0], 0.0, 100.0).cuts == []


def test_ticks_are_local_and_apart() -> None:
    axis = Axis([START, START + 5000.0], 0.0, 1000.0)
    ticks = axis.ticks(zone_of("Asia/Kathmandu"))
    assert [t.text for t in ticks][:3] == ["10:45", "11:00", "11:10"]
    assert all(b.x - a.x >= 67 for a, b in pairwise(ticks))
    assert [t.day for t in ticks if t.day] == ["Sat 12 Sep"]


def test_two_days_and_two_hours_in_one_picture() -> None:
    line = build_timeline(report(story.two_days()))
    assert line is not None
    assert line.cut_labels == ("1d 23h",)
    assert [t.day for t in line.ticks if t.day] == ["Thu 10 Sep", "Sat 12 Sep"]


def test_steps_stand_under_their_day() -> None:
    text = render_html(report(story.two_days()))
    days = re.findall(r'<tr class="day"><th[^>]*>([^<]+)<', text)
    assert days == ["Thu 10 Sep 2009", "Sat 12 Sep 2009"]
    assert '<tr class="day">' not in render_html(report(story.done()))
    table = text[text.index('<table class="steps">'):]
    table = table[: table.index("</table>")]
    assert "Sep" not in re.sub(r'<tr class="day">.*?</tr>', "", table)
    assert re.search(r'<td class="num">\d\d:\d\d:\d\d</td>', table)


def test_a_card_has_one_number() -> None:
    outage = {"count": 1, "longest_real": 2.1, "total_real": 2.1, "longest_virtual": 68.0,
              "total_virtual": 68.0}
    text = render_html(report(story.done(), judgement={"write_outage": outage}))
    assert "<b>2.1s</b>" in text
    assert "1m 08s of the run&#39;s time; measured from outside" in text


def test_nothing_is_to_come_after_the_end() -> None:
    ended = render_html(report(story.rolled_back()))
    assert "not reached" in ended and "to come" not in ended
    assert "to come" in render_html(report(story.gate_open()))


def test_a_run_that_never_started_has_no_timeline() -> None:
    told = Story(shop_plan())
    told.events = []
    assert build_timeline(report(told)) is None
    assert "<svg" not in render_html(report(told))
