"""Answering questions of a run at the terminal it is driven from."""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from runbook.cli import wiring
from runbook.engine.context import Observer
from runbook.journal import Store
from runbook.model.events import Event
from runbook.model.runstate import RunState

_LOOK_EVERY = 0.3
_YES = frozenset({"y", "yes", "approve"})
_NO = frozenset({"n", "no", "reject"})
_CLOSING = frozenset({"answered", "verified", "failed", "skipped", "rollback_started", "restored"})

Answer = tuple[str, dict[str, Any]]


def read_answer(line: str, question: Mapping[str, Any]) -> Answer | None:
    """What a typed line says: ``y [ROLE] [EVIDENCE…]``, ``n [REASON…]``, or a verb the question
    offers. None when it is none of these, so that a stray key press decides nothing."""
    verb, _, rest = line.strip().partition(" ")
    verb, rest = verb.lower(), rest.strip()
    offered = question.get("verbs")
    if offered:
        return (verb, {"why": rest}) if verb in offered else None
    if verb in _NO:
        return "reject", {"why": rest}
    if verb not in _YES:
        return None
    roles = list(question.get("roles") or ())
    if question.get("reason"):
        return ("approve", {"why": rest}) if rest else None
    if not roles:
        return "approve", {"evidence": rest}
    role, _, evidence = rest.partition(" ")
    if role not in roles:
        return None
    return "approve", {"role": role, "evidence": evidence.strip()}


def how_to_answer(question: Mapping[str, Any]) -> str:
    """One line that tells what may be typed."""
    if question.get("verbs"):
        return "type " + ", ".join(question["verbs"]) + " and Enter"
    roles = list(question.get("roles") or ())
    said = " EVIDENCE" if question.get("evidence") else ""
    said = " REASON" if question.get("reason") else said
    if roles:
        return f"type y ROLE{said} (roles: {', '.join(roles)}) or n REASON, and Enter"
    return f"type y{said} or n REASON, and Enter"


class TerminalAnswers(Observer):
    """Passes everything on to the screen, and reads answers from the keyboard meanwhile.

    A context manager; its one thread looks for a line only while a question is open, so keys
    typed at other times stay with the shell.
    """

    def __init__(
        self, inner: Observer, store: Store, run_id: str, *, keyboard: TextIO | None = None,
        tell: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._store = store
        self._run_id = run_id
        self._keyboard = keyboard or sys.stdin
        self._tell = tell
        self._open: dict[str, Mapping[str, Any]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)

    def __enter__(self) -> TerminalAnswers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def on_event(self, event: Event, state: RunState) -> None:
        self._inner.on_event(event, state)
        if event.kind in _CLOSING:
            with self._changed:
                self._open.pop(event.node, None)
                if event.kind == "rollback_started":
                    self._open.clear()  # Whether to go on is not asked any more.

    def on_output(self, node: str, line: str) -> None:
        self._inner.on_output(node, line)

    def on_question(self, node: str, question: Mapping[str, Any]) -> None:
        self._inner.on_question(node, question)
        with self._changed:
            self._open[node] = question
            self._changed.notify()
        self._tell(f"{node}: {how_to_answer(question)}")

    def _read(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._open)
                if self._closed:
                    return
            ready, _, _ = select.select([self._keyboard], [], [], _LOOK_EVERY)
            if ready and not self._take(self._keyboard.readline()):
                return

    def _take(self, line: str) -> bool:
        """Post one typed line as an answer to the oldest open question; False at end of input."""
        if not line:
            return False
        with self._changed:
            node, question = next(iter(self._open.items()), ("", {}))
        if not node or not line.strip():
            return True
        answer = read_answer(line, question)
        if answer is None:
            self._tell(f"{node}: that is no answer; {how_to_answer(question)}")
            return True
        verb, data = answer
        self._store.post(
            self._run_id, verb, who=wiring.person(), now=wiring.real_clock().now(), node=node,
            data=data,
        )
        return True
