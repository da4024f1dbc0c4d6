"""Fallback pages and the old balancer that forwards, on real nginx and HAProxy, with a visitor who
loads pages all the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import web
from tests.lab.fingerprint import difference, fingerprint
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.web import FLAG, LARGE, NEW, OLD, SOCKET, Download, Visitor, balancer_state

pytestmark = [*marks, without("haproxy"), without("nginx"), without("socat")]

BACK = "policy: {on_failure: rollback}\n"
SITE = f"http://{MACHINES[OLD]}/"
PAGES = f"""\
  - id: closed
    playbook: web/maintenance
    with: {{servers: east-web, flag: {FLAG}, url: "{SITE}", contains: back at two}}
"""
OPEN = PAGES.replace("closed", "open").replace("with: {", "with: {pages: hidden, ")
FORWARD = f"""\
  - id: move
    playbook: web/drain-and-forward
    with: {{balancer: east-web, backend: app, old: [east], new: west, socket: {SOCKET}, grace: 10s,
           new_address: "{MACHINES[NEW]}:80", url: "{SITE}", contains: side west}}
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    with Lab.open(files=web.files()) as lab:
        web.wait_for_site(lab)
        yield lab


@pytest.fixture
def runs(site: Lab, tmp_path: Path) -> Iterator[Runs]:
    """Whatever a test does, both sides are as they were when it has ended."""
    before, servers = world(site), balancer_state(site)
    yield Runs(site, tmp_path, "")
    assert difference(before, world(site)) == []
    assert balancer_state(site) == servers


def world(lab: Lab) -> dict[str, str]:
    """Files on both hosts, but for what grows, and the flags."""
    found = {key: value for key, value in fingerprint(lab).items()
             if "/root/.runbook" not in key and "/var/lib/nginx" not in key}
    for host in (OLD, NEW):
        found[f"{host} /run/shop"] = lab[host].run("ls -lA /run/shop").stdout
    return found


def test_pages_go_up_and_come_down_around_a_body(site: Lab, runs: Runs) -> None:
    body = (f"  - {{id: body, kind: http.check, with: {{url: '{SITE}fallback/style.css', "
            "contains: teal}}\n")
    with Visitor(site) as visitor:
        code, state, text = runs.run(PAGES + body + OPEN)
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        visitor.loads(3)
    assert visitor.order() == ["200 east", "503 fallback", "200 east"], visitor.counts()
    assert state.nodes["closed/switch@east-web"].outputs == {
        "statuses": {SITE: [503]}, "assets": 2}
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text


@pytest.mark.parametrize("step", ["closed/switch", "closed/seen-http-198-51-100-10",
                                  "open/switch"])
def test_pages_are_as_before_whichever_step_fails(site: Lab, runs: Runs, step: str) -> None:
    code, state, text = runs.run(PAGES + OPEN, head=BACK, fail=step)
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text


def test_a_flag_that_was_there_is_left(site: Lab, runs: Runs) -> None:
    site[OLD].run(f"echo mine >{FLAG}")
    try:
        code, state, text = runs.run(PAGES)
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        assert f"already done: {FLAG} is there" in text
        code, state, text = runs.rollback()
        assert code == ExitCode.ROLLED_BACK, text
        assert site[OLD].run(f"cat {FLAG}").stdout == "mine\n"
    finally:
        site[OLD].run(f"rm {FLAG}")


def test_a_configuration_that_does_not_honour_the_flag_is_refused(site: Lab, runs: Runs) -> None:
    """Nothing is touched; a comment, or another flag, does not count."""
    unfit = PAGES.replace(FLAG, "/run/shop/other.on")
    code, told = runs.probed(unfit)
    (need,) = [need for node in told["nodes"] for need in node["needs"]
               if need["what"] == "nginx looks for /run/shop/other.on"]
    assert (code, need["state"]) == (ExitCode.REHEARSAL_FAILED, "unmet")
    code, state, text = runs.run(unfit)
    assert code == ExitCode.HELD
    assert "nginx does not look for /run/shop/other.on" in text
    assert not state.nodes["closed/switch@east-web"].intended


def test_a_configuration_that_is_broken_since_is_not_in_the_way_back(
    site: Lab, runs: Runs
) -> None:
    code, state, text = runs.run(PAGES)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    site[OLD].run("cp -p /etc/nginx/nginx.conf /etc/kept; echo nonsense >>/etc/nginx/nginx.conf")
    try:
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        assert site[OLD].run(f"test -e {FLAG}", check=False).returncode == 1
    finally:
        site[OLD].run("mv /etc/kept /etc/nginx/nginx.conf")


def test_a_fallback_page_whose_style_sheet_is_missing(site: Lab, runs: Runs) -> None:
    """It is found by asking, told, and the site is shown again."""
    site[OLD].run("mv /srv/pages/fallback/style.css /srv/pages/fallback/style")
    try:
        code, state, text = runs.run(
            "  - id: pages\n    kind: nginx.maintenance\n    hosts: east-web\n"
            f"    with: {{flag: {FLAG}, url: '{SITE}'}}\n"
            "    poll: {every: 100ms, timeout: 300ms}\n",
            head=BACK,
        )
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        assert "/fallback/style.css does not load (404)" in " ".join(text.split())
    finally:
        site[OLD].run("mv /srv/pages/fallback/style /srv/pages/fallback/style.css")


def test_the_old_balancer_forwards_and_comes_back(site: Lab, runs: Runs) -> None:
    """No page fails, never do both sides serve, and a download under way is let end by itself."""
    with Visitor(site) as visitor:
        download = Download(site)
        going = runs.start(FORWARD.replace("grace: 10s", "grace: 2m"))
        wait_for("it waits for the download", lambda: runs.begun("move/out-east@east-web"), 60)
        visitor.loads(5)
        assert going.poll() is None
        assert download.finish() > LARGE
        assert going.wait(60) == ExitCode.OK
        visitor.loads(5)
        assert visitor.order() == ["200 east", "200 west"], visitor.counts()
        assert balancer_state(site)[0].split()[1] == "1"
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        visitor.loads(5)
    assert visitor.order() == ["200 east", "200 west", "200 east"], visitor.counts()
    assert {n.state for n in state.nodes.values() if n.intended} == {NodeState.ROLLED_BACK}


def test_sessions_that_do_not_end_are_ended(site: Lab, runs: Runs) -> None:
    download = Download(site)
    code, state, text = runs.run(FORWARD.replace("grace: 10s", "grace: 200ms"))
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert download.finish() < LARGE
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK


@pytest.mark.parametrize("step", ["move/standby", "move/drain-east", "move/out-east",
                                  "move/forwarded"])
def test_the_balancer_is_as_before_whichever_step_fails(
    site: Lab, runs: Runs, step: str
) -> None:
    with Visitor(site) as visitor:
        code, state, text = runs.run(FORWARD, head=BACK, fail=step)
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        visitor.loads(3)
    assert set(visitor.counts()) <= {"200 east", "200 west"}, visitor.counts()


def test_a_new_side_that_does_not_answer_changes_nothing(site: Lab, runs: Runs) -> None:
    code, state, text = runs.run(FORWARD.replace(":80\"", ":81\"", 1))
    assert code == ExitCode.HELD, text
    assert not any(node.intended for node in state.nodes.values())
