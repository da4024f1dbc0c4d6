"""Answers typed at the terminal a run is driven from."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook.cli.terminal import TerminalAnswers, read_answer
from runbook.engine.context import Observer
from runbook.journal import Store, open_store
from runbook.model.plan import Plan

PLAIN: Mapping[str, Any] = {"question": "go?", "roles": [], "quorum": 1}
ROLES: Mapping[str, Any] = {"question": "go?", "roles": ["lead", "dba"], "quorum": 2}
REASON: Mapping[str, Any] = {"question": "late?", "roles": [], "quorum": 1, "reason": True}
FAILED: Mapping[str, Any] = {"question": "?", "verbs": ["retry", "skip", "rollback"]}


@pytest.mark.parametrize(("line", "question", "expected"), [
    ("y\n", PLAIN, ("approve", {"evidence": ""})),
    ("YES saw the graph\n", PLAIN, ("approve", {"evidence": "saw the graph"})),
    ("n too late\n", PLAIN, ("reject", {"why": "too late"})),
    ("q\n", PLAIN, None),
    ("yy\n", PLAIN, None),
    ("y\n", ROLES, None),
    ("y cook\n", ROLES, None),
    ("y dba all green\n", ROLES, ("approve", {"role": "dba", "evidence": "all green"})),
    ("y\n", REASON, None),
    ("y the lead takes it\n", REASON, ("approve", {"why": "the lead takes it"})),
    ("n\n", REASON, ("reject", {"why": ""})),
    ("retry\n", FAILED, ("retry", {"why": ""})),
    ("y\n", FAILED, None),
])
def test_a_line_is_an_answer_or_nothing(
    line: str, question: Mapping[str, Any], expected: object
) -> None:
    assert read_answer(line, question) == expected


def test_a_typed_answer_is_posted_for_the_open_question(tmp_path: Path) -> None:
    store: Store = open_store(tmp_path)
    run = store.create(Plan(runbook="r"), who="ada", now=0.0)
    told: list[str] = []
    wrong = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if "no answer" in text:
            wrong.set()

    reading, writing = os.pipe()
    with os.fdopen(reading) as keyboard, os.fdopen(writing, "w") as fingers:
        answers = TerminalAnswers(Observer(), store, run, keyboard=keyboard, tell=tell)
        with answers:
            answers.on_question("go", ROLES)
            fingers.write("y\n")
            fingers.flush()
            assert wrong.wait(10)
            assert store.inbox(run) == []
            fingers.write("y lead\n")
            fingers.flush()
            posted = threading.Event()
            for _ in range(100):
                if store.inbox(run):
                    break
                posted.wait(0.05)
        (message,) = store.inbox(run)
    assert (message.verb, message.node, message.data["role"]) == ("approve", "go", "lead")
    assert told[0] == "go: type y ROLE (roles: lead, dba) or n REASON, and Enter"
