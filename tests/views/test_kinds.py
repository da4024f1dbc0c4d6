"""Kinds on a terminal and as JSON, told by their classes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from runbook.kinds import registry
from runbook.kinds.file import File
from runbook.kinds.files_sync import FilesSync
from runbook.kinds.http_check import HttpCheck
from runbook.kinds.poll import PollCommand
from runbook.kinds.shell import Shell
from runbook.kinds.wait import Wait
from runbook.model.kind import Kind
from runbook.views.consoles import plain_console
from runbook.views.kinds import describe, rows, show_kind, show_kinds


def text_of(kind: type[Kind], width: int = 90) -> str:
    out = io.StringIO()
    show_kind(kind, plain_console(out, width=width))
    return out.getvalue()


def keys_of(kind: type[Kind]) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in describe(kind)["keys"]}


@pytest.mark.parametrize("name", list(registry()))
def test_every_kind_can_be_told(name: str) -> None:
    kind = registry()[name]
    told = describe(kind)
    json.dumps(told)
    assert all(row["description"] and row["type"] != "anything" for row in told["keys"]) or (
        name == "assert"  # `that` takes what a template gives
    )
    text = text_of(kind)
    for row in told["keys"]:
        assert row["key"] in text
    for line in kind.example.splitlines():
        assert line in text
    assert all(len(line) <= 90 for line in text.splitlines() if not line.startswith("  - "))


def test_keys_are_told_as_they_are_written() -> None:
    assert list(keys_of(Wait)) == ["for", "until"]
    assert {"from", "to"} <= keys_of(FilesSync).keys()
    assert keys_of(Shell)["idempotent"]["type"] == "true | false"
    assert keys_of(HttpCheck)["status"]["type"] == "whole number, or a list"
    assert keys_of(HttpCheck)["timeout"]["type"] == "duration"
    assert keys_of(File)["state"]["type"] == "present | absent"
    assert keys_of(Shell)["env"]["type"] == "mapping to text"


def test_required_keys_come_first_with_defaults_after() -> None:
    text = text_of(Shell)
    assert text.index("command") < text.index("creates")
    assert "Required." in text and "Default: false." in text
    assert "Default: 10s." in text_of(HttpCheck)


def test_how_it_is_undone_is_told() -> None:
    assert describe(File)["undo"].startswith("Exactly: the prior file")
    assert "undo:" in describe(Shell)["undo"]
    assert describe(PollCommand)["undo"] == "There is nothing to undo: it only looks."
    assert "every 5s for 10m" in text_of(PollCommand)


def test_code_keeps_its_backticks_without_colour_and_loses_them_with_it() -> None:
    assert "`creates`" in text_of(Shell)
    out = io.StringIO()
    show_kind(Shell, Console(file=out, force_terminal=True, color_system="standard", width=90))
    assert "`" not in out.getvalue() and "\x1b[" in out.getvalue()


def test_the_table_has_every_kind_with_its_summary() -> None:
    out = io.StringIO()
    show_kinds(registry(), plain_console(out, width=80))
    text = " ".join(out.getvalue().split())
    for row in rows(registry()):
        assert f"{row['kind']} {row['summary']}" in text
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())
