"""What every move of a database has to show, whatever the database is."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab.lab import Lab
from tests.lab.network import inside
from tests.lab.processes import wait_for
from tests.lab.runs import Runs

OLD, NEW = "east-web", "west-web"
PASSWORD = "only-in-the-lab"
BACK = "policy: {on_failure: rollback}\n"
_NUMBERS = itertools.count(1)
"""Of orders, over all writers of this process."""


class Writer(ABC):
    """Writes one order after another, where customers stand, to whichever server takes it, and
    keeps what was acknowledged."""

    def __init__(self, lab: Lab) -> None:
        self._space = lab.network.namespace("client")
        self.stop = threading.Event()
        self.acknowledged: set[int] = set()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def _run(self) -> None:
        with inside(self._space):
            while not self.stop.wait(0.005):
                number = next(_NUMBERS)
                if self.write(number):
                    self.acknowledged.add(number)

    @abstractmethod
    def write(self, number: int) -> bool:
        """Whether a server has acknowledged the order."""

    def more(self, count: int) -> None:
        """Wait until so many more orders are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_for("writes", lambda: len(self.acknowledged) >= enough, 30)


Ids = Callable[[Lab, str], set[int]]


def moves_and_comes_back(lab: Lab, runs: Runs, steps: str, writer: Writer, ids: Ids) -> None:
    """There and back while somebody writes, and no acknowledged write is lost."""
    with writer:
        writer.more(20)
        code, state, text = runs.run(steps)
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        writer.more(20)
        known = set(writer.acknowledged)
        assert known <= ids(lab, NEW)
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        assert {n.state for n in state.nodes.values() if n.intended} == {NodeState.ROLLED_BACK}
        writer.more(20)
    _none_lost(lab, writer, ids)


def fails_and_is_as_before(
    lab: Lab, runs: Runs, steps: str, step: str, writer: Writer, ids: Ids
) -> None:
    """A step fails right after it took effect, with writes going on."""
    with writer:
        writer.more(10)
        code, state, text = runs.run(steps, head=BACK, fail=step)
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        writer.more(10)
    _none_lost(lab, writer, ids)


def is_not_promoted(lab: Lab, runs: Runs, steps: str, writer: Writer, ids: Ids) -> None:
    """A side that misses writes never becomes the primary."""
    lab.partition("east", "west")
    try:
        with writer:
            writer.more(20)
            code, state, text = runs.run(steps, head=BACK)
            assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
            assert "acknowledged writes would be lost" in text
            writer.more(5)
        assert writer.acknowledged <= ids(lab, OLD)
    finally:
        lab.heal()
    _none_lost(lab, writer, ids)


def _none_lost(lab: Lab, writer: Writer, ids: Ids) -> None:
    assert writer.acknowledged <= ids(lab, OLD)
    wait_for("the other side has them too", lambda: writer.acknowledged <= ids(lab, NEW), 30)
