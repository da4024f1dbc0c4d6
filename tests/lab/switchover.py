"""What every move of a database has to show, whatever the database is."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import pytest

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


def a_replica_that_lags_by_minutes_is_not_promoted(
    lab: Lab, runs: Runs, steps: str, writer: Writer, ids: Ids, words: str
) -> None:
    """It has been told to lag; ``steps`` wait for it, for a short while, and would promote."""
    with writer:
        writer.more(20)
        code, state, text = runs.run(steps, head=BACK)
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
        assert words in text
        assert state.nodes["promote"].attempt == 0
        writer.more(5)
    assert writer.acknowledged <= ids(lab, OLD)


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


_KILL_WATCHERS = """\
for p in /proc/[0-9]*; do
  case $(readlink "$p/cwd") in */.runbook-switch/*) kill -9 "${p##*/}" && echo "$p" ;; esac
done
"""
GATE = "  - {id: go, kind: gate.approve, with: {question: Go on?}}\n"


def comes_back_when_its_controller_is_killed(
    lab: Lab, runs: Runs, freeze: str, after: str, writer: Writer, ids: Ids, *,
    alive_first: bool = False,
) -> None:
    """``freeze`` has a lease of 4 s; ``after`` is what must not follow once it has ended. Before
    that whoever watches on the machine is killed, as a restart would: a controller that lives
    starts it again. ``alive_first``: see, too, that one that lives keeps it for longer."""
    with writer:
        controller = runs.start(freeze + GATE + after)
        wait_for("the question is asked", runs.asked)
        frozen = len(writer.acknowledged)
        assert lab[OLD].run(_KILL_WATCHERS).stdout
        wait_for("it is told", lambda: any(
            "had nobody who watches" in event.data["text"] for event in runs.events("note")))
        if alive_first:
            with pytest.raises(AssertionError, match="in vain"):
                wait_for("a write", lambda: len(writer.acknowledged) > frozen, patience=6)
        controller.kill()
        controller.wait()
        wait_for("writes come back", lambda: len(writer.acknowledged) > frozen + 10, patience=8)
        # Who comes back later is not allowed to go on as if nothing had happened.
        assert runs.command("approve", "go")[0] == ExitCode.OK
        code, state, text = runs.command("resume", "--plain")
        assert (code, state.phase) == (ExitCode.HELD, RunPhase.HELD), text
        assert "dead man's switch of east fired" in text or "east takes writes" in text
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert writer.acknowledged <= ids(lab, OLD)


def stays_frozen_after_the_promotion(
    lab: Lab, runs: Runs, promoted: str, rest: str, writer: Writer, ids: Ids,
    old_takes_writes: Callable[[], bool],
) -> None:
    """The controller is killed right after the promotion: nothing comes back on the old side."""
    with writer:
        writer.more(5)
        controller = runs.start(promoted + GATE + rest)
        wait_for("the question is asked", runs.asked)
        controller.kill()
        controller.wait()
        with pytest.raises(AssertionError, match="in vain"):
            wait_for("the old side is open again", old_takes_writes, patience=6)
        assert runs.command("approve", "go")[0] == ExitCode.OK
        code, state, text = runs.command("resume", "--plain")
        assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
        writer.more(10)
        known = set(writer.acknowledged)
        assert known <= ids(lab, NEW)
        code, state, text = runs.rollback()
        assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    _none_lost(lab, writer, ids)


def a_freeze_is_proven(
    runs: Runs, freeze: str, sentinel: str, cheat: Callable[[], object] | None = None
) -> None:
    """``cheat`` writes although the server is frozen. Leaves everything as it was."""
    code, state, text = runs.run(freeze + sentinel)
    assert code == ExitCode.OK, text
    assert "a write was refused, and east stood still" in state.nodes["proof"].detail
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    code, _, text = runs.run(sentinel, head=BACK)
    assert code == ExitCode.ROLLED_BACK, text
    assert "takes writes: it accepted" in text
    if cheat is None:
        return
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            cheat()

    cheater = threading.Thread(target=write)
    cheater.start()
    try:
        code, _, text = runs.run(freeze + sentinel, head=BACK)
    finally:
        stop.set()
        cheater.join()
    assert code == ExitCode.ROLLED_BACK, text
    assert "somebody gets past the freeze" in text


def _none_lost(lab: Lab, writer: Writer, ids: Ids) -> None:
    assert writer.acknowledged <= ids(lab, OLD)
    wait_for("the other side has them too", lambda: writer.acknowledged <= ids(lab, NEW), 30)


def a_probe_shows_what_is_missing(
    runs: Runs, playbook: str, weak: Callable[[str], str], *, fits: Sequence[str],
    lacking: Sequence[str],
) -> None:
    """Nothing of a whole switchover, though most of its steps could not act yet; and what the same
    lacks with logins that may not do it. ``weak`` makes such a declaration of one. ``fits`` and
    ``lacking``: needs that are met, and what is said of those that are not."""
    declared = [line for line in runs.head.splitlines()
                if line.startswith(("  east: {engine", "  west: {engine"))]
    assert len(declared) == 2
    runs.head += "".join(
        f"{weak(line).replace(': {', '-weak: {', 1)}\n" for line in declared
    )
    code, told = runs.probed("".join(
        f"  - {{id: {name}, playbook: {playbook}, with: {{from: east{end}, to: west{end}}}}}\n"
        for name, end in (("strong", ""), ("weak", "-weak"))
    ))
    assert code == ExitCode.REHEARSAL_FAILED
    strong, others = (
        [node for node in told["nodes"] if node["node"].startswith(name)]
        for name in ("strong", "weak")
    )
    assert not [node for node in strong if node["problem"]]
    # The lab's servers start open; that is a warning, and has a test of its own.
    needs = {one["what"]: one for node in strong for one in node["needs"]
             if "should it be restarted" not in one["what"]}
    assert {one["state"] for one in needs.values()} == {"met"}, needs
    assert set(fits) <= set(needs)
    unmet = [f"{one['what']}: {one['seen']}" for node in others for one in node["needs"]
             if one["state"] == "unmet"]
    for words in lacking:
        assert any(words in one for one in unmet), (words, unmet)
