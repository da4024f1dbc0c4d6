from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

from runbook.errors import NotFound
from runbook.model.events import Event
from runbook.views.back import show_rollback_plan
from runbook.views.glance import Glance
from runbook.views.log import json_lines, of_nodes, outputs_of, print_log, print_outputs
from runbook.views.status import print_status, status_data, watch
from runbook.views.words import _SAY, describe
from tests.views import story
from tests.views.story import Story, shop_plan

EVENT_KINDS = {
    "run_started", "resumed", "host_opened", "intent", "acted", "done", "verified", "failed",
    "errored", "in_doubt", "skipped", "ask", "answered", "decision", "paused", "continued", "held",
    "rollback_started", "restored", "rollback_failed", "irreversible", "breach", "run_finished",
    "note", "amended", "progress", "late", "probe",
}


def paper(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, markup=False, soft_wrap=True)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_kind_of_event_has_words() -> None:
    assert set(_SAY) == EVENT_KINDS


def test_words_of_events() -> None:
    told = story.rolled_back()
    said = [describe(event) for event in told.events]
    assert "verified: 14 record sets at TTL 60" in said
    assert "asks: Is everybody ready for the freeze? [lead, dba; 2 people]" in said
    assert "anna (lead): approve: all monitors are green" in said
    assert "started (attempt 2): run command" in said
    assert "rollback started by boris: not worth the risk" in said
    assert "put back: east is primary again" in said


def test_words_are_one_line_even_when_the_error_is_not() -> None:
    told = story.to_the_flip().intent("flip")
    told.add("failed", "flip", 1, "do", error="one\ntwo\x1b[2J")
    assert describe(told.events[-1]) == "failed: one two�[2J"


def test_log_prints_days_times_and_words() -> None:
    console = paper()
    told = story.two_days()
    print_log(told.plan, told.events, console=console)
    lines = text_of(console).splitlines()
    assert lines[0] == "Thursday 10 September 2009 EDT"
    assert "Saturday 12 September 2009 EDT" in lines
    assert len(lines) == len(told.events) + 2


def test_log_of_one_step() -> None:
    told = story.done()
    nodes = [n.id for n in told.plan.by_id["freeze/app"].nodes]
    assert {e.node for e in of_nodes(told.events, nodes)} == set(nodes)


def test_json_lines_hold_every_field() -> None:
    told = story.done()
    rows = [json.loads(line) for line in json_lines(told.events)]
    assert len(rows) == len(told.events)
    assert rows[-1]["kind"] == "run_finished" and rows[-1]["text"] == "run done"
    assert rows[-1]["hash"] == told.events[-1].hash


def stored(directory: Path) -> list[Event]:
    told = story.done()
    run = directory / "runs" / told.run_id
    run.mkdir(parents=True)
    (run / "flip.1.out").write_text("x" * 100_000 + "\nend\x1b[0m\n")
    (run / "flip.1.err").write_text("warned\n")
    return told.events


def test_output_is_the_whole_file(tmp_path: Path) -> None:
    (item,) = outputs_of(stored(tmp_path), ["flip"], tmp_path)
    assert len(item.stdout) > 100_000 and item.stderr == "warned\n"
    assert (item.exit_code, item.note) == (0, "")
    out = io.StringIO()
    print_outputs([item], stream=out)
    head, *rest = out.getvalue().splitlines()
    assert head == "== flip (attempt 1, action 1, exit 0)"
    assert rest[-3:] == ["end\x1b[0m", "-- stderr", "warned"]


def test_output_on_a_terminal_is_harmless(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    print_outputs(outputs_of(stored(tmp_path), ["flip"], tmp_path), stream=out)
    assert "\x1b" not in out.getvalue() and "end\\x1b[0m" in out.getvalue()


def test_output_whose_file_is_gone_falls_back_and_says_so(tmp_path: Path) -> None:
    (item,) = outputs_of(story.done().events, ["thaw@web1.west"], tmp_path)
    assert item.stdout == "ok\n"
    assert "cannot be read (No such file or directory)" in item.note


def test_status_data_is_json_and_says_how_to_answer() -> None:
    told = story.gate_open()
    data = status_data(told.state, told.events, now=told.now, held_by="anna on ctl1")
    assert json.loads(json.dumps(data)) == data
    assert data["phase"] == "running" and data["held_by"] == "anna on ctl1"
    assert data["backout"] == 5.0 and data["margin"] == data["remaining_window"] - 5.0
    (asked,) = data["questions"]
    assert asked["answer"] == ["runbook approve shop-2009-k3v9xq go --role dba"]
    assert [s["state"] for s in data["steps"]][:3] == ["verified", "started", "pending"]


def test_status_shows_every_step_of_a_long_run() -> None:
    console = paper()
    told = story.many()
    print_status(Glance(told.state, told.now, told.now), held_by=None, console=console)
    text = text_of(console)
    assert "step-000" in text and "step-199" in text
    assert "no controller holds this run: go on with runbook resume" in text


def test_watch_without_a_terminal_shows_one_picture() -> None:
    console = paper()
    told = story.gate_open()
    looks: list[Story] = []

    def look() -> Glance:
        looks.append(told)
        return Glance(told.state, told.now, told.now)

    watch(look, stop=threading.Event(), console=console)
    assert len(looks) == 1 and "1 of 9 steps done" in text_of(console)


def test_watch_ends_with_the_run() -> None:
    tales = iter([story.gate_open(), story.done()])
    out = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, markup=False)

    class Tick(threading.Event):
        """A second that has passed at once."""

        def wait(self, timeout: float | None = None) -> bool:
            return False

    def look() -> Glance:
        told = next(tales)
        return Glance(told.state, told.now, told.now)

    watch(look, stop=Tick(), console=out)
    assert "9 of 9 steps done" in text_of(out).rpartition("\x1b[?1049l")[2]


def test_rollback_plan_in_order_with_its_losses() -> None:
    console = paper(120)
    show_rollback_plan(story.to_the_flip().state, None, console=console)
    lines = text_of(console).splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == [
        "promote", "files", "freeze/db", "freeze/app", "go", "lower-ttl",
    ]
    assert "needs --accept-loss promote" in lines[1]
    assert lines[-1].startswith("back-out time: 1m 10s")


def test_rollback_plan_as_json_and_to_a_step() -> None:
    console = paper()
    show_rollback_plan(story.to_the_flip().state, "freeze/db", as_json=True, console=console)
    data = json.loads(text_of(console))
    assert [row["step"] for row in data["steps"]] == ["promote", "files"]


def test_rollback_plan_of_nothing_and_of_an_unknown_step() -> None:
    console = paper()
    show_rollback_plan(Story(shop_plan()).state, None, console=console)
    assert "nothing to undo" in text_of(console)
    with pytest.raises(NotFound):
        show_rollback_plan(Story(shop_plan()).state, "nowhere", console=console)
