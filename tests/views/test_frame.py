from __future__ import annotations

from typing import Any

import pytest

from runbook.engine.history import Expected, Reckoning
from runbook.model.folding import apply
from runbook.model.runbook import Budget, Probe
from runbook.views.frame import compose, margin_style
from runbook.views.glance import Glance, rows_to_show, snapshot
from tests.views import story
from tests.views.story import START, Story, shop_plan, step

OUTPUT = tuple((f"web{i}.east", f"line {i} [bold]not markup[/bold] \x1b[2J") for i in range(40))
TALES = [story.done, story.rolled_back, story.not_restored, story.in_doubt, story.gate_open,
         story.over_budget, story.many, story.two_days]


def lines(told: Story, width: int, height: int | None, **more: Any) -> list[str]:
    glance = Glance(told.state, told.now, told.now, OUTPUT)
    return [line.plain for line in compose(glance, width, height, **more)]


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 12), (40, 10), (200, 60)])
@pytest.mark.parametrize("tell", TALES)
def test_never_larger_than_the_terminal(tell: Any, size: tuple[int, int]) -> None:
    width, height = size
    told = tell()
    glance = Glance(told.state, told.now, told.now + 5000, OUTPUT)
    got = compose(glance, width, height)
    assert len(got) <= height
    assert all(line.cell_len <= width for line in got)


@pytest.mark.parametrize("tell", TALES)
def test_ascii_terminals_get_ascii(tell: Any) -> None:
    text = "\n".join(lines(tell(), 80, 24, ascii_only=True))
    assert text.isascii()


def test_open_question_and_how_to_answer_it() -> None:
    text = "\n".join(lines(story.gate_open(), 80, 24))
    assert "Is everybody ready for the freeze? (1 of 2; missing: dba)" in text
    assert "runbook approve shop-2009-k3v9xq go --role dba" in text


def test_window_back_out_and_margin() -> None:
    told = story.to_the_flip()
    text = lines(told, 100, 30)[2]
    assert "1h 56m left" in text and "Back-out 1m 10s" in text and "Margin 1h 54m" in text


LATE = {"busy": 0, "takes": 720, "takes_by": "estimate", "back": 540, "back_by": "measured",
        "safety": 60, "back_at": START + 8000, "over": 798, "until": START + 8200}


def test_the_margin_and_the_whole_refusal_are_seen_on_eighty_columns() -> None:
    question = ("flip is refused: after it, going back would end outside the window. "
                + "00:40:00 now + 12m for this step (estimate) " * 4 + "13m 18s earlier")
    told = story.to_the_flip()
    told.now = START + 7200 - 30
    told.add("late", step="thaw", action="accepted", who="dora", why="nearly done", **LATE)
    told.add("late", step="flip", action="ask", **LATE)
    told.add("ask", "flip", question=question, reason=True)
    shown = lines(told, 80, 24)
    assert any(line.startswith("Margin -40") and "accepted by dora" in line for line in shown)
    text = " ".join(line.strip() for line in shown)
    assert question in text and "runbook approve" in text and "…" not in text.split("? flip")[1]


def test_window_overrun_is_said() -> None:
    told = story.to_the_flip()
    told.now = START + 7200 + 90
    assert "over by 1m 30s" in lines(told, 100, 30)[2]


def test_before_the_window() -> None:
    told = Story(shop_plan(), start=START - 3600)
    assert "opens in 1h" in lines(told, 100, 30)[2]


@pytest.mark.parametrize(
    ("margin", "backout", "colour"),
    [(-1, 10, "red"), (200, 10, "yellow"), (1000, 3000, "yellow"), (3000, 60, "green")],
)
def test_margin_colours(margin: float, backout: float, colour: str) -> None:
    assert colour in margin_style(margin, backout)


def test_breached_budget_is_said() -> None:
    assert any("write_outage  BREACHED" in line for line in lines(story.over_budget(), 80, 24))


def test_two_hundred_steps_show_the_active_ones() -> None:
    got = lines(story.many(200, 120, 3), 80, 24)
    text = "\n".join(got)
    assert all(f"step-{i}" in text for i in (120, 121, 122))
    assert any("verified" in line and line.startswith("⋯ 1") for line in got)
    assert any("to come" in line for line in got)


def test_scattered_active_steps_are_all_shown() -> None:
    active = [i in {3, 90, 180} for i in range(200)]
    got = rows_to_show(active, 0, 12)
    assert {3, 90, 180} <= {i for i in got if isinstance(i, int)}
    assert len(got) <= 12
    covered = [
        i for item in got
        for i in ([item] if isinstance(item, int) else range(item[0], item[1]))
    ]
    assert covered == list(range(200))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 199, 200, 500])
def test_rows_never_exceed_the_room(rows: int) -> None:
    got = rows_to_show([i % 7 == 0 for i in range(200)], 0, rows)
    assert 0 < len(got) <= max(rows, 1)


def test_virtual_time_is_marked() -> None:
    told = story.two_days()
    glance = Glance(told.state, told.now, told.now + 5000, ())
    assert "virtual; really" in compose(glance, 120, 30)[1].plain
    level = Glance(told.state, told.now, told.now, ())
    assert "virtual" not in compose(level, 120, 30)[1].plain


def test_clock_in_the_windows_zone_and_utc() -> None:
    told = story.gate_open()
    assert "01:01:49 EDT  05:01:49 UTC" in lines(told, 100, 30)[1]


def test_an_ended_run_stands_still() -> None:
    told = story.done()
    before = lines(told, 80, 24)
    told.now += 10_000_000
    assert lines(told, 80, 24) == before


def test_a_wait_shows_until_when_and_why() -> None:
    plan = shop_plan(budgets=(), steps=(step("drained", kind="dns.wait_ttl"),))
    told = Story(plan)
    told.add("intent", "drained", 1, "do", before={},
             actions=[{"action": "wait_for", "until": told.now + 600, "why": "TTL 600 served"}])
    (row,) = [line for line in lines(told, 120, 30) if line.startswith("▸ drained")]
    assert "until 01:11:00 EDT, 10m left: TTL 600 served" in row


def test_of_several_waits_the_present_one_is_shown() -> None:
    """A hold counts from the end of the action before it."""
    plan = shop_plan(budgets=(), steps=(step("shift", kind="dns.shift"),))
    told = Story(plan)
    wait = {"action": "wait_for", "until": told.now}
    told.add("intent", "shift", 1, "do", before={}, actions=[
        {"action": "confirm", "what": "first"}, {**wait, "why": "hold", "after_last": 300},
        {**wait, "why": "later"},
    ])
    assert not any("until" in line for line in lines(told, 120, 30))
    told.wait(60).add("acted", "shift", 1, "do", index=0, result={"ok": True})
    (row,) = [line for line in lines(told, 120, 30) if line.startswith("▸ shift")]
    assert "5m left: hold" in row


def test_a_step_with_an_anchor_says_when() -> None:
    plan = shop_plan(budgets=(), steps=(step("later", at=START + 3600, title="Raise"),))
    (row,) = [line for line in lines(Story(plan), 120, 30) if line.startswith("· later")]
    assert "at 02:00:00 EDT, in 59m  Raise" in row


def test_output_cannot_move_the_cursor() -> None:
    text = "\n".join(lines(story.over_budget(), 100, 30))
    assert "\x1b" not in text and "[bold]not markup[/bold]" in text


def test_a_snapshot_is_not_reached_by_later_events() -> None:
    told = story.to_the_flip()
    state = told.state
    copy = snapshot(state)
    count = len(told.events)
    told.intent("flip").add("note", "", text="later")
    for event in told.events[count:]:
        apply(state, event)
    assert state.nodes["flip"].state.value == "started"
    assert copy.nodes["flip"].state.value == "pending"
    assert copy.notes == [] and copy.last_seq == count


def _framed(told: Story, width: int = 140, **more: object) -> str:
    glance = Glance(told.state, told.now, told.now, **more)  # type: ignore[arg-type]
    return "\n".join(line.plain for line in compose(glance, width, None))


def test_the_back_out_clock_says_what_it_goes_by() -> None:
    told = story.to_the_flip().intent("flip")
    assert "Back-out 1m 30s estimated + 20s at work" in _framed(told)
    known = Reckoning(undo={"flip": Expected(8.0, "same step", 2)})
    assert "Back-out 1m 18s 1 of 5 measured + 20s at work" in _framed(told, reckoning=known)


def test_a_budget_with_a_probe_shows_what_customers_meet_now() -> None:
    probe = Probe(url="http://shop.example/orders", method="POST")
    plan = shop_plan(budgets=(Budget(name="orders", limit=60.0, probe=probe),))
    told = Story(plan)
    told.add("probe", budget="orders", state="down", since=told.now, until=told.now + 5,
             down=20.0, unknown=7.0, began=told.now, samples=9, failed=5, why="status 503")
    told.wait(5)
    text = _framed(told)
    assert "25s of 1m  orders  DOWN  7s unknown  status 503" in text
    told.wait(600)
    assert "NOT MEASURED NOW" in _framed(told), "and no outage that goes on by itself"
