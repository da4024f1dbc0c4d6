"""Budgets measured by a real client; the way back kept inside the window: as a user sees it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.journal import open_store
from runbook.model.folding import fold
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.cli.running import runbook
from tests.cli.test_run import Place


@contextmanager
def shop(directory: Path, asked: list[str]) -> Iterator[str]:
    """A shop that takes no orders as long as there is a file ``closed``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(self.path)
            (directory / "asked").touch()
            self.send_response(503 if (directory / "closed").exists() else 201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/orders"
        finally:
            server.shutdown()
            thread.join()


OUTAGE = """\
runbook: shop
budgets:
  write_outage:
    limit: 1s
    on_breach: rollback
    probe: {http: "URL", method: POST, body: order-check, every: 100ms, timeout: 1s, status: 201}
steps:
  - id: open
    kind: poll
    with: {command: test -e HERE/asked}
    poll: {every: 100ms, timeout: 30s}
  - id: close
    kind: shell
    with: {command: touch HERE/closed}
    undo: rm HERE/closed
  - id: copy
    kind: shell
    with: {command: "echo $$ > HERE/copying; exec sleep 600"}
    undo: rm HERE/copying
    interrupt: true
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for child in made.started:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def test_a_breach_seen_from_outside_interrupts_and_turns_back(place: Place) -> None:
    here = place.directory
    asked: list[str] = []
    with shop(here, asked) as url:
        place.write(OUTAGE.replace("URL", url))
        for level in ("plan", "probe"):
            runbook(here, "rehearse", "book.yml", "--level", level, code=None)
        assert not asked, "a rehearsal that changes nothing sends nothing"
        done = runbook(here, "run", "book.yml", "--yes", "--plain",
                       code=int(ExitCode.ROLLED_BACK))
    assert "write_outage overran its limit" in done.stdout
    assert not (here / "closed").exists() and not (here / "copying").exists()
    state = place.state
    assert state.phase is RunPhase.ROLLED_BACK
    (breach,) = state.breaches
    assert (breach.what, breach.detail) == ("write_outage", "status 503")
    told = [e for e in place.store.events(state.run_id) if e.kind == "failed"]
    assert [e.node for e in told] == ["copy"]
    assert "interrupted, as the run goes back" in told[0].data["error"]

    told_now = json.loads(runbook(here, "status", "--json").stdout)
    (budget,) = told_now["budgets"]
    assert budget["breached"] and budget["seconds"] > 1.0 and budget["outages"] == 1
    assert budget["probe"] == f"POST {url} from the controller"
    assert budget["samples"] > budget["failed"] >= 10
    report = runbook(here, "report").stdout
    assert re.search(r"out of service; \d+ of \d+ requests failed: BREACHED", report)
    page = here / "report.html"
    runbook(here, "report", "--out", str(page))
    assert "requests failed: BREACHED" in page.read_text()


def _window(start: datetime, **more: str) -> str:
    return (f'window: {{start: "{start:%Y-%m-%d %H:%M:%S}", timezone: UTC, '
            + ", ".join(f"{key}: {value}" for key, value in more.items()) + "}")


LATE = """\
runbook: late
WINDOW
policy: {window: {safety: 0s}}
steps:
  - {id: one, kind: file, with: {path: one.txt, content: one}, estimate_undo: 2m}
  - {id: two, kind: file, with: {path: two.txt, content: two}, estimate: 30m}
"""


def test_a_late_step_waits_for_somebody_who_accepts_it_by_name(place: Place) -> None:
    opened = datetime.now(UTC) - timedelta(minutes=1)
    place.write(LATE.replace("WINDOW", _window(opened, duration="20m")))
    child = place.run()
    place.until(lambda: place.store.latest_run_id() is not None
                and bool(place.state.nodes["two"].question), child)
    here = place.directory
    status = json.loads(runbook(here, "status", "--json").stdout)
    (question,) = status["questions"]
    assert question["reason"] and question["answer"][0].endswith("two --why REASON")
    # 30 m for the step, 30 m and 2 m to go back after it, 19 m of window left.
    assert "30m for this step (estimate) + 32m to go back (estimate)" in question["question"]
    assert "43m" in question["question"].split("earlier")[0][-12:]
    assert status["backout"] == 120.0 and status["backout_basis"] == "estimated"
    assert 0 < status["margin"] < 19 * 60
    assert place.state.nodes["two"].state is NodeState.PENDING

    no = runbook(here, "approve", place.state.run_id, "two", code=int(ExitCode.REFUSED))
    assert "with a reason only" in no.stderr
    runbook(here, "approve", place.state.run_id, "two", "--why", "the lead takes it",
            env={"RUNBOOK_USER": "grace"})
    assert child.wait(60) == 0
    assert [late.action for late in place.state.lateness] == ["ask", "accepted"]
    report = runbook(here, "report").stdout
    assert "## Too late for the way back" in report
    assert "accepted by grace: the lead takes it" in report
    assert "## The back-out clock" in report


SANDBOX = """\
runbook: slow
window: {start: 2009-09-12 01:00, timezone: UTC, duration: 1h}
policy: {window: {on_breach: rollback, enforce: always, safety: 1m}}
inventory: {hosts: {web: {address: 198.51.100.10}}}
steps:
  - id: change
    kind: file
    hosts: web
    with: {path: site.conf, content: "west\\n"}
    estimate_undo: 5m
    at: window.start
SLOW
  - id: more
    kind: file
    hosts: web
    with: {path: more.conf, content: "more\\n"}
    estimate: 10m
"""
WORLD = """\
time: {scale: 600, longest_wait: 2s}
hosts:
  web: {addresses: [198.51.100.10], files: {site.conf: {text: "east\\n"}}}
"""


def _rehearsed(directory: Path, slow: str) -> tuple[str, RunState]:
    (directory / "book.yml").write_text(SANDBOX.replace("SLOW", slow))
    (directory / "sandbox.yml").write_text(WORLD)
    done = runbook(directory, "rehearse", "book.yml", "--level", "sandbox", "--plain",
                   code=int(ExitCode.REHEARSAL_FAILED))
    store = open_store(directory / "state")
    run_id = store.latest_run_id()
    assert run_id is not None
    return done.stdout, fold(run_id, *store.load(run_id))


def test_a_run_that_would_overshoot_is_refused_before_the_step(tmp_path: Path) -> None:
    told, state = _rehearsed(
        tmp_path, "  - {id: slow, kind: wait, with: {for: 50m}}")
    assert "10m for this step (estimate) + 15m to go back (estimate) + 1m to spare" in told
    assert "more was not started: going back would have ended outside the window" in told
    assert state.phase is RunPhase.ROLLED_BACK
    assert state.nodes["more@web"].attempt == 0
    assert state.nodes["change@web"].state is NodeState.ROLLED_BACK
    assert state.plan.window is not None and state.ended_at is not None
    assert state.ended_at < state.plan.window.end


def test_a_step_that_takes_too_long_is_given_up_in_time(tmp_path: Path) -> None:
    told, state = _rehearsed(
        tmp_path, "  - {id: slow, kind: wait, with: {for: 5h}, estimate: 10m}")
    assert "the way back has to begin now" in told
    assert state.phase is RunPhase.ROLLED_BACK
    assert [(b.what, b.action) for b in state.breaches] == [("way back", "rollback")]
    assert state.plan.window is not None and state.ended_at is not None
    # At 54 minutes, and not at the end of the hour.
    assert state.ended_at < state.plan.window.end
    assert state.breaches[0].ts >= state.plan.window.start + 54 * 60
