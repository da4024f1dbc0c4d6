"""What can go wrong around a move, drawn from a seed, and how it is made to happen in a lab."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from runbook.model.runstate import RunState
from tests.lab.lab import Lab
from tests.lab.shop import Move

WEB = ("east-web", "west-web")
FORWARD = ("records", "lower-ttl", "lowered", "west-data", "west-code", "west-settings",
           "west-closed", "west-start", "go", "freeze", "frozen", "pages", "final-sync",
           "west-complete", "flip", "seen", "thaw", "drained", "restore-ttl", "moved")
ACTING = ("lower-ttl", "west-data", "west-code", "west-settings", "west-closed", "west-start",
          "west-stays", "freeze", "final-sync", "flip", "thaw", "restore-ttl")
"""Steps that have something to undo."""

Kind = Literal["link", "power", "reboot", "kill", "pause", "primary", "secondary", "partition",
               "slow"]
KINDS: tuple[Kind, ...] = ("link", "power", "reboot", "kill", "pause", "primary", "secondary",
                           "partition", "slow")
_SITES = (("east", "west"), ("control", "east"), ("control", "west"))


@dataclass(frozen=True)
class Fault:
    """``kind`` happens at ``where`` when ``step`` has begun (``op``: to be done, or undone),
    ``pause`` seconds later, and lasts ``length`` seconds."""

    kind: Kind
    where: tuple[str, ...]
    op: Literal["do", "undo"]
    step: str
    pause: float
    length: float

    def __str__(self) -> str:
        place = f" {'-'.join(self.where)}" if self.where else ""
        return (f"{self.kind}{place} {self.pause:.2f}s into {self.op} {self.step} "
                f"for {self.length:.1f}s")

    def due(self, state: RunState) -> bool:
        nodes = [state.nodes[n.id] for n in state.plan.by_id[self.step].nodes]
        if self.op == "undo":
            return any(n.undo_attempt > 0 for n in nodes)
        return any(n.started_at is not None for n in nodes)

    def happen(self, lab: Lab, move: Move) -> None:
        """Returns when it is over; whatever it did to the controller is left so."""
        lasting = Event()
        match self.kind:
            case "kill":
                if move.controller is not None:
                    move.kill()
            case "pause":
                move.freeze(self.length)
            case "link":
                lab.cut_link(self.where[0])
                lasting.wait(self.length)
                lab.mend_link(self.where[0])
            case "slow":
                lab.slow(self.where[0], 64)
                lasting.wait(self.length)
                lab.slow(self.where[0], None)
            case "partition":
                lab.partition(self.where[0], self.where[1])
                lasting.wait(self.length)
                lab.heal()
            case "reboot":
                lab.reboot(self.where[0])
            case "power" | "primary" | "secondary":
                lab.power_cut(self.where[0])
                lasting.wait(self.length)
                lab.power_on(self.where[0])


@dataclass(frozen=True)
class Script:
    """All that is decided about one move beforehand."""

    number: int
    faults: tuple[Fault, ...]
    fail: str = ""
    """The step that is made to fail right after it took effect."""
    order_back: str = ""
    """The step at whose beginning the lead orders a rollback."""

    def __str__(self) -> str:
        ending = (f"{self.fail} fails; " if self.fail
                  else f"the lead goes back at {self.order_back}; " if self.order_back else "")
        return f"move {self.number}: {ending}" + "; ".join(map(str, self.faults))


def write_script(seed: int, number: int, faults: int) -> Script:
    """The same for a seed and a number, whatever else is played."""
    rng = random.Random(f"{seed} {number}")
    step = rng.choice(FORWARD[3:])
    ending = number % 3
    before = FORWARD[: FORWARD.index(step) + 1]
    back = tuple(one for one in ACTING if one in before or one == "west-stays") if ending else ()
    return Script(
        number, tuple(_draw(rng, back) for _ in range(faults)),
        fail=step if ending == 1 else "", order_back=step if ending == 2 else "",
    )


def _draw(rng: random.Random, back: tuple[str, ...]) -> Fault:
    """``back``: steps that the run is going to undo."""
    # All is drawn in any case, so that what follows does not depend on what this one is.
    kind, host, sites = rng.choice(KINDS), rng.choice(WEB), rng.choice(_SITES)
    forward, undone = rng.choice(FORWARD), rng.choice(back or ACTING)
    going_back = rng.random() < 0.6
    where: tuple[str, ...] = {
        "kill": (), "pause": (), "partition": sites, "primary": ("ns1",), "secondary": ("ns2",),
    }.get(kind, (host,))
    op: Literal["do", "undo"] = "undo" if back and going_back else "do"
    return Fault(kind, where, op, undone if op == "undo" else forward, rng.uniform(0, 0.5),
                 rng.uniform(0.2, 5))


@dataclass
class Trouble:
    """Lets a script happen while its move goes on."""

    lab: Lab
    move: Move
    script: Script
    happened: list[Fault] = field(default_factory=list)
    _ordered: bool = False

    def look(self) -> None:
        """Called again and again: is it time for something?"""
        state = self.move.state()
        order = self.script.order_back
        if order and not self._ordered and state.nodes[_node(state, order)].started_at is not None:
            self._ordered = True
            self.move.store.post(
                state.run_id, "rollback", who="the lead", now=time.time(),
                data={"why": "the lead has seen enough", "to": None, "accept_loss": [],
                      "accept_drift": []},
            )
        for fault in self.script.faults:
            if fault not in self.happened and fault.due(state):
                self.happened.append(fault)
                Event().wait(fault.pause)
                fault.happen(self.lab, self.move)
                return


def _node(state: RunState, step: str) -> str:
    return state.plan.by_id[step].nodes[0].id
