"""Name servers that are down, answers that get lost, clocks that are wrong, others at work."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runbook.cli.session import Show, take_up
from runbook.errors import ExitCode
from runbook.journal import open_store
from runbook.model.state import NodeState, RunPhase
from tests.lab.dns_moves import HEAD, SECRETS, Done, _done, move, take_back
from tests.lab.lab import DESKS, Lab
from tests.lab.names import KEY_NAME, KEY_SECRET, PRIMARY, SECONDARY
from tests.lab.needs import marks, without
from tests.lab.network import inside
from tests.lab.processes import wait_for

pytestmark = marks

OLD, NEW = "198.51.100.10", "203.0.113.10"
ZONE = f"""\
$ORIGIN shop.example.
$TTL 4
@     IN SOA ns1 hostmaster 1 1 1 3600 1
@     IN NS  ns1
@     IN NS  ns2
ns1   IN A   {PRIMARY}
ns2   IN A   {SECONDARY}
@     IN A   {OLD}
www   IN A   {OLD}
"""
FLIP = (f"  - {{id: flip, kind: dns.flip, with: {{zone: shop.example, from: {OLD}, to: {NEW}}}, "
        "poll: {every: 200ms, timeout: 3s}, on_failure: hold}\n")


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(ZONE) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _as_before(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    yield
    nsupdate(lab, "delete shop.example. A", "delete www.shop.example. A",
             f"add shop.example. 4 A {OLD}", f"add www.shop.example. 4 A {OLD}")


def nsupdate(lab: Lab, *lines: str) -> None:
    """Somebody else changes the zone, from another desk."""
    text = "\n".join([
        f"server {PRIMARY}", f"key hmac-sha256:{KEY_NAME} {KEY_SECRET}", "zone shop.example.",
        *(f"update {line}" for line in lines), "send", "",
    ])
    done = subprocess.run(lab.at("client", "nsupdate"), input=text, text=True, timeout=20,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def address(lab: Lab, name: str = "shop.example", server: str = PRIMARY) -> list[str]:
    return lab.dig(f"@{server}", name, "A")


def resume(lab: Lab, folder: Path, done: Done) -> Done:
    store = open_store(folder / "state")
    with inside(lab.network.namespace("control")):
        driven = take_up(store, done.state.run_id, show=Show.NOTHING)
    return _done(store, done.state.run_id, driven)


@contextmanager
def deaf(lab: Lab) -> Iterator[None]:
    """The primary's answers to updates get lost on their way to the controller, no others: those
    with QR set and opcode 5 (RFC 1035 section 4.1.1), after a TCP header with timestamps and the
    two bytes of length, or after a UDP header."""
    rules = "; ".join(
        f"nft add rule inet deaf out ip daddr {DESKS['control']} {protocol} sport 53 "
        f"'@th,{bit},16 & 0xf800 == 0xa800' drop"
        for protocol, bit in (("tcp", 288), ("udp", 80))
    )
    lab["ns1"].run(
        "nft add table inet deaf; nft 'add chain inet deaf out { type filter hook output priority "
        f"0; }}'; {rules}"
    )
    try:
        yield
    finally:
        lab["ns1"].run("nft delete table inet deaf")


def test_a_secondary_that_is_down_is_waited_for_and_then_the_run_holds(
    lab: Lab, tmp_path: Path
) -> None:
    lab.power_cut("ns2")
    done = move(lab, tmp_path, FLIP)
    assert (done.driven.exit_code, done.state.phase) == (ExitCode.HELD, RunPhase.HELD)
    assert "ns2" in done.driven.why, "the server is named"
    lab.power_on("ns2")
    wait_for("ns2 serves the zone", lambda: bool(address(lab, server=SECONDARY)))
    again = resume(lab, tmp_path, done)
    assert again.driven.exit_code == ExitCode.OK, again.log
    assert address(lab) == address(lab, server=SECONDARY) == [NEW]
    assert len([line for line in again.log.splitlines() if line.startswith("intent flip")]) == 1


def test_a_secondary_that_is_down_keeps_the_timer_from_starting(lab: Lab, tmp_path: Path) -> None:
    lab.power_cut("ns2")
    done = move(lab, tmp_path, (
        f"  - {{id: lower, kind: dns.ttl, with: {{zone: shop.example, points_at: {OLD}, ttl: 1}}, "
        "poll: {every: 200ms, timeout: 2s}, on_failure: hold}\n"
        "  - {id: lowered, kind: dns.wait_ttl, with: {of: lower}}\n" + FLIP
    ))
    assert done.state.phase is RunPhase.HELD and "ns2" in done.driven.why
    assert done.state.nodes["lowered"].state is NodeState.PENDING
    assert address(lab) == [OLD]


def test_somebody_else_changes_a_record_before_the_flip(lab: Lab, tmp_path: Path) -> None:
    """Between the reading and the update: the server refuses the whole update."""
    started = threading.Event()

    def other() -> None:
        started.wait(20)
        nsupdate(lab, "delete www.shop.example. A", "add www.shop.example. 4 A 192.0.2.99")

    thread = threading.Thread(target=other)
    thread.start()
    flag = tmp_path / "flag"
    watcher = threading.Thread(target=lambda: (wait_for("the step", flag.exists), started.set()))
    watcher.start()
    done = move(lab, tmp_path / "run", (
        "  - {id: lower, kind: dns.ttl, with: {zone: shop.example, "
        f"points_at: {OLD}, ttl: 1}}}}\n"
        f"  - {{id: mark, kind: shell, undo: 'true', with: {{command: touch {flag}}}}}\n"
        "  - {id: other, kind: poll, with: {command: "
        f"\"dig +short @{PRIMARY} www.shop.example | grep 192.0.2.99\"}}, "
        "poll: {every: 100ms, timeout: 20s}}\n"
        "  - {id: kept, kind: dns.verify, with: {zone: shop.example, name: www, "
        f"expect: [{OLD}]}}, poll: {{every: 100ms, timeout: 300ms}}, on_failure: hold}}\n" + FLIP
    ))
    thread.join()
    watcher.join()
    assert done.state.phase is RunPhase.HELD and "192.0.2.99" in done.driven.why
    assert address(lab) == [OLD]


def test_somebody_else_changes_a_record_after_the_flip(lab: Lab, tmp_path: Path) -> None:
    done = move(lab, tmp_path, FLIP)
    assert done.driven.exit_code == ExitCode.OK, done.log
    nsupdate(lab, "delete www.shop.example. A", "add www.shop.example. 4 A 192.0.2.99")
    back = take_back(lab, tmp_path, done)
    assert back.driven.exit_code == ExitCode.NOT_RESTORED
    assert "drift" in back.log and "records.www.shop.example. A: is None, was" in back.log
    assert address(lab, "www.shop.example") == ["192.0.2.99"], "what is theirs stays theirs"


def test_an_answer_that_is_lost_is_found_out_afterwards(lab: Lab, tmp_path: Path) -> None:
    """The update arrives and takes effect once; only its answer does not come."""
    before = int(lab.dig("@" + PRIMARY, "shop.example", "SOA")[0].split()[2])
    with deaf(lab):
        done = move(lab, tmp_path / "run", FLIP)
    assert done.driven.exit_code == ExitCode.OK, done.log
    assert address(lab) == [NEW]
    after = int(lab.dig("@" + PRIMARY, "shop.example", "SOA")[0].split()[2])
    assert after == before + 1, "one update, once"


def test_a_secondary_that_answers_servfail_is_not_counted_as_seen(
    lab: Lab, tmp_path: Path
) -> None:
    """It is up, and has lost the zone: an answer, and still nothing known."""
    lab["ns2"].run(
        "nft add table inet cut; nft 'add chain inet cut out { type filter hook output priority "
        f"0; }}'; nft add rule inet cut out ip daddr {PRIMARY} drop; "
        "knotc -s /run/knot/knot.sock -f zone-purge shop.example."
    )
    try:
        wait_for("SERVFAIL", lambda: "SERVFAIL" in lab.run(
            "control", "dig", "+norec", f"@{SECONDARY}", "shop.example", "A").stdout)
        done = move(lab, tmp_path, FLIP)
        assert done.state.phase is RunPhase.HELD
        assert "ns2" in done.driven.why and "SERVFAIL" in done.driven.why
    finally:
        lab["ns2"].run("nft delete table inet cut")
    wait_for("ns2 serves the zone", lambda: bool(address(lab, server=SECONDARY)), 60)
    again = resume(lab, tmp_path, done)
    assert again.driven.exit_code == ExitCode.OK, again.log
    assert address(lab, server=SECONDARY) == [NEW]


@without("faketime")
def test_a_controller_with_a_wrong_clock_is_told(lab: Lab, tmp_path: Path) -> None:
    """TSIG allows five minutes (RFC 8945, section 10)."""
    file = tmp_path / "runbook.yml"
    file.write_text(HEAD + FLIP)
    done = lab.run(
        "control", "faketime", "-f", "+20m", sys.executable, "-m", "tests.lab.controller",
        str(tmp_path / "state"), str(file), env=SECRETS, check=False, timeout=60,
    )
    assert done.returncode in {ExitCode.HELD, ExitCode.UNREACHABLE}, done.stdout + done.stderr
    said = (done.stdout + done.stderr).lower()
    assert "clock" in said or "time" in said, said
    assert address(lab) == [OLD]
