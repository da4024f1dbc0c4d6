"""Random faults while the shop moves, for real; then it is resumed until it ends.

    LAB_SEED=N    replays the faults of a campaign (their kinds, steps and pauses); without it
                  the short campaign of `make test`, always the same; `random` draws a new one
    LAB_FAULTS=N  how many faults; the full campaign is
                  `LAB_SEED=random LAB_FAULTS=200 python -m pytest -s tests/lab/test_campaign.py`

Whatever happens, the run ends done, or rolled back, or it stops and names the step it cannot
judge; no acknowledged order is lost; nothing that may not be repeated is repeated unknowingly.
"""

from __future__ import annotations

import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from runbook.errors import ExitCode
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.lab import shop
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.processes import listening, wait_for
from tests.lab.shop import EAST, WEST, Move, records_of

pytestmark = [*marks, pytest.mark.slow]

_ASKED = os.environ.get("LAB_SEED", "20090912")
SEED = random.SystemRandom().randrange(10**9) if _ASKED == "random" else int(_ASKED)
FAULTS = int(os.environ.get("LAB_FAULTS", "6"))
A_MOVE = 2
"""Faults a move."""
_LIVES = 12
"""Controllers a run may use up."""

WEB = ("east-web", "west-web")
STEPS = ("records", "lower-ttl", "lowered", "west-data", "west-code", "west-settings", "go",
         "freeze", "frozen", "pages", "final-sync", "west-start", "west-complete", "flip", "seen",
         "thaw", "drained", "restore-ttl")


@dataclass(frozen=True)
class Fault:
    """``what`` happens to ``host`` when ``step`` has begun, ``pause`` seconds later, and lasts
    ``length`` seconds."""

    what: str
    host: str
    step: str
    pause: float
    length: float

    def __str__(self) -> str:
        where = f" {self.host}" if self.host else ""
        return f"{self.what}{where} {self.pause:.2f}s into {self.step} for {self.length:.1f}s"

    def restarts(self) -> bool:
        return self.what in {"power", "reboot"}


def draw(rng: random.Random) -> Fault:
    what = rng.choice(["cut", "cut", "power", "reboot", "kill", "kill", "dns", "partition"])
    # Drawn in any case, so that what follows does not depend on what this is.
    host = rng.choice(WEB)
    host = {"kill": "", "partition": "", "dns": "ns1"}.get(what, host)
    return Fault(what, host, rng.choice(STEPS), rng.uniform(0, 0.5), rng.uniform(0.2, 5))


def faults_of(move: int) -> list[Fault]:
    """Those of one move of the campaign: the same for a seed, however many moves there are."""
    rng = random.Random(SEED)
    return [draw(rng) for _ in range((move + 1) * A_MOVE)][move * A_MOVE :]


@dataclass
class Trouble:
    """Lets the faults happen while a move goes on."""

    lab: Lab
    move: Move
    waiting: list[Fault]
    done: list[Fault] = field(default_factory=list)

    def look(self) -> None:
        """Called again and again: is it time for one of the faults?"""
        state = self.move.state()
        for fault in list(self.waiting):
            if state.step_state(fault.step) is not NodeState.PENDING:
                self.waiting.remove(fault)
                self.done.append(fault)
                Event().wait(fault.pause)
                self.happen(fault)

    def happen(self, fault: Fault) -> None:
        lab, pause = self.lab, Event()
        if fault.what == "kill":
            if self.move.controller is not None:
                self.move.kill()
        elif fault.what == "cut":
            lab.cut_link(fault.host)
            pause.wait(fault.length)
            lab.mend_link(fault.host)
        elif fault.what == "partition":
            lab.partition("east", "west")
            pause.wait(fault.length)
            lab.heal()
        elif fault.what == "reboot":
            lab.reboot(fault.host)
        else:
            lab.power_cut(fault.host)
            pause.wait(fault.length)
            lab.power_on(fault.host)


def counted(text: str) -> str:
    """The two commands that must not run twice leave a line on the host each time they run."""
    for begin, word in (("        python3 shop/orders.py export data/final.db\n", "did"),
                        ("      if {{ ssh }} west-web test -f data/orders.db; then\n", "undid")):
        assert text.count(begin) == 1, begin
        indent = " " * (len(begin) - len(begin.lstrip()))
        text = text.replace(begin, f"{indent}echo {word} >> ledger; sync ledger\n{begin}")
    return text


def follow(move: Move, trouble: Trouble) -> tuple[int, list[int]]:
    """Resume until the run has ended, or is in doubt; the last exit code, and all of them."""
    codes: list[int] = []
    move.start()
    for _ in range(_LIVES):
        code = live(move, trouble.look)
        if code is not None:
            codes.append(code)
            if code in {ExitCode.OK, ExitCode.ROLLED_BACK, ExitCode.IN_DOUBT}:
                return code, codes
            assert code in {ExitCode.HELD, ExitCode.NOT_RESTORED, ExitCode.UNREACHABLE}, (
                code, move.log)
        move.resume()
    raise AssertionError(f"{_LIVES} controllers and no end\n{move.log}")


def live(move: Move, during: Callable[[], None]) -> int | None:
    """One life of a controller: its exit code, or None when it was killed."""
    end = time.monotonic() + 180
    while move.controller is not None:
        code = move.controller.poll()
        if code is not None:
            move.controller = None
            return code
        assert time.monotonic() < end, f"the controller does not end\n{move.log}"
        move.answer()
        during()
        Event().wait(0.05)
    return None


def intents(move: Move, node: str, op: str) -> int:
    """How often the journal knows that a node was begun."""
    _, events = move.store.load(move.run_id)
    return sum(e.kind == "intent" and (e.node, e.op) == (node, op) for e in events)


def check_repeats(move: Move) -> None:
    lines = Counter(
        move.lab["east-web"].run("cat ledger 2>/dev/null", check=False).stdout.split()
    )
    node = "final-sync@east-web"
    for word, op in (("did", "do"), ("undid", "undo")):
        assert lines[word] <= intents(move, node, op), (word, lines, move.log)


def check_doubt(state: RunState, faults: list[Fault], log: str) -> None:
    doubtful = {n.node: n for n in state.nodes.values() if n.state is NodeState.IN_DOUBT}
    assert doubtful, log
    for name, status in doubtful.items():
        assert status.detail, f"{name} does not say what is unknown"
        if re.search("restarted", status.detail):
            assert any(f.restarts() for f in faults), (status.detail, log)


@pytest.mark.parametrize("number", range(math.ceil(FAULTS / A_MOVE)))
def test_the_move_under_faults(number: int, tmp_path: Path) -> None:
    faults = faults_of(number)
    told = "; ".join(map(str, faults))
    print(f"\nLAB_SEED={SEED} LAB_FAULTS={FAULTS} move {number}: {told}")
    with Lab.open(shop.zone(), files=shop.files()) as lab:
        wait_for("the shop is open", lambda: 80 in listening(lab["east-web"].init))
        before = records_of(lab)
        move = Move(lab, tmp_path / "move", counted)
        try:
            move.open_for_orders()
            code, codes = follow(move, Trouble(lab, move, list(faults)))
            state = move.state()
            Event().wait(0.5)
        except BaseException:
            print(move.log)
            raise
        finally:
            move.close()
        print(f"ended {state.phase} after exit codes {codes}")
        acknowledged = move.acknowledged()
        east = move.orders_at("east-web")
        if code == ExitCode.OK:
            assert state.phase is RunPhase.DONE
            assert acknowledged <= move.orders_at("west-web"), (told, move.log)
            assert records_of(lab) == sorted(line.replace(EAST, WEST) for line in before)
        elif code == ExitCode.ROLLED_BACK:
            assert state.phase is RunPhase.ROLLED_BACK
            assert acknowledged <= east, (told, move.log)
            assert records_of(lab) == before
        else:
            check_doubt(state, faults, move.log)
            west = "test -f data/orders.db"
            there = lab["west-web"].run(west, check=False).returncode == 0
            assert acknowledged <= east | (move.orders_at("west-web") if there else set())
        check_repeats(move)
