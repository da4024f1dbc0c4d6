"""The example mail-mysql in the lab: MX, MariaDB and Maildirs move while others send. Wherever it
turns back, no acknowledged message is lost, neither its row nor its text.

``make test`` lets a few steps fail; with LAB_EVERY_STEP=1 it is each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab import mail
from tests.lab.lab import MACHINES, RESOLVERS, Lab
from tests.lab.mail import EXAMPLE, MailMove, Senders, files_at, mail_at, rows_at
from tests.lab.names import PRIMARY, SECONDARY
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.shop import records_of
from tests.lab.switchover import NEW, OLD

pytestmark = [
    *marks, without("mariadbd"), pytest.mark.xdist_group("mail-mysql"),
    pytest.mark.skipif(bool(mail.missing()), reason=mail.missing() or "-"),
]

# The old side frozen; the new one the primary, with the texts still in the east; the west serves.
SOME = ("quiet", "promote", "thaw")
BOTH = (PRIMARY, SECONDARY)


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with mail.open_mail() as lab:
        yield lab


@pytest.fixture
def lab(opened: Lab) -> Lab:
    return opened


def _steps() -> tuple[str, ...]:
    if os.environ.get("LAB_EVERY_STEP") != "1":
        return SOME
    plan = load_plan(EXAMPLE / "runbook.yml", [])
    return tuple(one.id for one in plan.steps if not one.skipped)


def leads(lab: Lab, side: str) -> None:
    """Every name server leads the MX to a side, in both families, and SPF names it alone."""
    v6 = {OLD: "2001:db8:e::10", NEW: "2001:db8:f::10"}[side]
    for server in BOTH:
        assert lab.dig(f"@{server}", "shop.example", "MX") == ["10 mail.shop.example."]
        assert lab.dig(f"@{server}", "mail.shop.example", "A") == [MACHINES[side]]
        assert lab.dig(f"@{server}", "mail.shop.example", "AAAA") == [v6]
        assert lab.dig(f"@{server}", "shop.example", "TXT") == [
            f'"v=spf1 mx ip4:{MACHINES[side]} ip6:{v6} -all"']


def none_lost(lab: Lab, side: str, senders: Senders) -> None:
    assert not [one for one in senders.sent if not one.taken], "nothing is bounced"
    there = mail_at(lab, side)
    lost = {one for one, digest in senders.acknowledged.items() if there.get(one) != digest}
    assert not lost, "no acknowledged message is lost"
    assert set(files_at(lab, side)) == rows_at(lab, side), "no text without a row, no row without"


def test_the_mail_moves_and_comes_back_with_what_the_west_took(lab: Lab, tmp_path: Path) -> None:
    before = {server: records_of(lab, server) for server in BOTH}
    leads(lab, OLD)
    with (closing(MailMove(lab, tmp_path / "move")) as move,
          Senders(lab, tmp_path) as senders):
        move.start()
        code, state = move.to_its_end(), move.state()
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), move.log
        assert {n.state for n in state.nodes.values()} <= {NodeState.VERIFIED, NodeState.SKIPPED}
        leads(lab, NEW)
        assert len(records_of(lab)) == len(before[PRIMARY]) and " 1 IN " not in "".join(
            records_of(lab)), "the TTLs are as they were"
        for resolver in RESOLVERS.values():
            assert lab.dig(f"@{resolver}", "mail.shop.example", "A") == [MACHINES[NEW]]
        senders.more(30)
        wait_for("the old database follows", lambda: rows_at(lab, OLD) == rows_at(lab, NEW), 30)

        assert state.step_outputs("files/same")["differences"] == 0
        at_the_freeze = {path: digest for path, digest in files_at(lab, NEW).items()
                         if path.endswith(".east")}
        assert at_the_freeze == files_at(lab, OLD), "what moved is the same, by checksum"
        moved = dict(senders.acknowledged)
        assert {one.site for one in senders.sent} == {"east", "west"}
        assert max(one.tries for one in senders.sent) > 1, "some had to try again"

        move.rollback()
        code, state = move.to_its_end(), move.state()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), move.log
        assert {n.state for n in state.nodes.values() if n.intended} == {NodeState.ROLLED_BACK}
        leads(lab, OLD)
        assert moved.items() <= mail_at(lab, OLD).items(), "what the west took has come home"
        senders.more(30)
    none_lost(lab, OLD, senders)
    assert {server: records_of(lab, server) for server in BOTH} == before
    assert files_at(lab, NEW) == {}, "the new side is as it was"


@pytest.mark.slow
@pytest.mark.parametrize("step", _steps())
def test_a_step_fails_and_the_mail_stays(lab: Lab, tmp_path: Path, step: str) -> None:
    """It fails right after it took effect, while others send."""
    before = {server: records_of(lab, server) for server in BOTH}
    with (closing(MailMove(lab, tmp_path / "move", fail=step)) as move,
          Senders(lab, tmp_path) as senders):
        move.start()
        # Those of `files/move` are tried again ten times.
        code, state = move.to_its_end(600), move.state()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), move.log
        touched = [n for n in state.nodes.values() if n.intended]
        assert {n.state for n in touched} <= {NodeState.ROLLED_BACK}
        senders.more(20)
    none_lost(lab, OLD, senders)
    leads(lab, OLD)
    assert {server: records_of(lab, server) for server in BOTH} == before
    wait_for("the west follows", lambda: rows_at(lab, OLD) == rows_at(lab, NEW), 30)
