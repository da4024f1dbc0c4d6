from __future__ import annotations

import io
import threading

from rich.console import Console

from runbook.engine.context import Observer
from runbook.model.folding import apply
from runbook.model.runstate import RunState
from runbook.views.live import LiveScreen
from runbook.views.plain import PlainScreen
from runbook.views.screen import screen
from tests.views import story
from tests.views.story import Story


def console(width: int = 80, height: int = 24, **more: object) -> Console:
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, markup=False,
        color_system="truecolor", legacy_windows=False, **more,  # type: ignore[arg-type]
    )


def feed(shown: Observer, told: Story) -> None:
    """As the engine does: one state, changed in place, told of after each event."""
    state = RunState.empty(told.run_id, told.plan)
    for event in told.events:
        apply(state, event)
        shown.on_event(event, state)


def live(told: Story, out: Console) -> LiveScreen:
    return LiveScreen(told.run_id, real_now=lambda: told.now, now=lambda: told.now, console=out)


def drawn(shown: LiveScreen, width: int = 80, height: int = 24) -> list[str]:
    paper = Console(file=io.StringIO(), width=width, height=height, record=True, markup=False)
    paper.print(shown.picture())
    return paper.export_text().rstrip("\n").split("\n")


def test_fits_an_80_by_24_terminal() -> None:
    for told in (story.gate_open(), story.many(), story.not_restored()):
        shown = live(told, console())
        feed(shown, told)
        for i in range(50):
            shown.on_output("web1.east", f"line {i}")
        lines = drawn(shown)
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80


def test_the_state_is_its_own() -> None:
    told = story.to_the_flip()
    shown = live(told, console())
    feed(shown, told)
    glance = shown.glance()
    assert glance is not None
    assert glance.state.nodes["files"].state.value == "verified"
    assert glance.state.last_hash == told.events[-1].hash


def test_joins_a_run_that_is_taken_up_again() -> None:
    told = story.rolled_back()
    state = RunState.empty(told.run_id, told.plan)
    shown = live(told, console())
    for i, event in enumerate(told.events):
        apply(state, event)
        if i >= 40:
            shown.on_event(event, state)
    glance = shown.glance()
    assert glance is not None
    assert glance.state.phase.value == "rolled_back" and glance.state.resumed == 1


def test_a_missed_event_is_made_up_for() -> None:
    told = story.done()
    state = RunState.empty(told.run_id, told.plan)
    shown = live(told, console())
    for i, event in enumerate(told.events):
        apply(state, event)
        if i % 3 != 1:
            shown.on_event(event, state)
    glance = shown.glance()
    assert glance is not None and glance.state.phase.value == "done"


def test_before_the_first_event_it_says_what_it_does() -> None:
    shown = LiveScreen("shop-1", real_now=lambda: 0.0, console=console())
    assert "opening connections" in drawn(shown)[0]


def test_time_passes_without_a_clock_of_the_run() -> None:
    told = story.gate_open()
    real = [5000.0]
    shown = LiveScreen(told.run_id, real_now=lambda: real[0], console=console())
    feed(shown, told)
    real[0] += 7
    glance = shown.glance()
    assert glance is not None and glance.now == told.now + 7


def test_events_and_drawing_from_many_threads() -> None:
    told = story.many(60, 50, 2)
    out = console()
    faults: list[BaseException] = []
    with live(told, out) as shown:

        def draw() -> None:
            try:
                for _ in range(20):
                    drawn(shown)
            except BaseException as fault:  # noqa: BLE001 - told to the test below
                faults.append(fault)

        def talk(name: str) -> None:
            for i in range(200):
                shown.on_output(name, f"line {i}")

        threads = [threading.Thread(target=draw) for _ in range(3)]
        threads += [threading.Thread(target=talk, args=(f"h{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        feed(shown, told)
        for thread in threads:
            thread.join()
    assert faults == []
    assert isinstance(out.file, io.StringIO)
    assert "50 of 60 steps done" in out.file.getvalue()


def test_the_last_picture_stays_after_the_screen_is_left() -> None:
    told = story.done()
    out = console()
    with live(told, out) as shown:
        feed(shown, told)
    assert isinstance(out.file, io.StringIO)
    after = out.file.getvalue().rpartition("\x1b[?1049l")[2]
    assert "9 of 9 steps done" in after


def test_the_last_picture_of_a_stopped_run_says_how_to_go_on() -> None:
    told = story.to_the_flip().add("paused", why="stopped on request")
    out = console()
    with live(told, out) as shown:
        feed(shown, told)
        assert "runbook continue" in "\n".join(drawn(shown))
    file = out.file
    assert isinstance(file, io.StringIO)
    last = file.getvalue().rpartition("\x1b[?1049l")[2]
    assert "runbook resume" in last and "runbook continue" not in last


def test_no_color_leaves_no_colour() -> None:
    told = story.over_budget()
    out = console(no_color=True)
    shown = live(told, out)
    feed(shown, told)
    out.print(shown.picture())
    assert isinstance(out.file, io.StringIO)
    assert "\x1b[3" not in out.file.getvalue() and "BREACHED" in out.file.getvalue()


def test_a_question_rings_the_bell() -> None:
    told = story.gate_open()
    out = console()
    live(told, out).on_question("go", {"question": "?"})
    assert isinstance(out.file, io.StringIO)
    assert "\x07" in out.file.getvalue()


def test_plain_prints_one_line_an_event() -> None:
    told = story.rolled_back()
    out = Console(file=io.StringIO(), width=80, markup=False, soft_wrap=True)
    shown = PlainScreen(console=out)
    feed(shown, told)
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert len(lines) == len(told.events) + 1  # and how to answer the question
    assert lines[0].split()[:2] == ["01:01:00", "EDT"]
    assert "run started by anna, LIVE" in lines[0]
    assert any("answer: runbook approve shop-2009-k3v9xq go --role lead" in x for x in lines)
    assert any("flip" in x and "failed: ns2.shop.example still gives" in x for x in lines)
    assert "run rolled back: flip failed" in lines[-1]


def test_plain_shows_live_output_without_control_characters() -> None:
    out = Console(file=io.StringIO(), width=80, markup=False)
    PlainScreen(console=out).on_output("web1", "50% \x1b]0;title\x07 [red]")
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue() == "    web1 │ 50% �]0;title� [red]\n"


def test_a_pipe_gets_plain_lines() -> None:
    with screen("shop-1", live=True) as shown:
        assert isinstance(shown, PlainScreen)
