"""Values taken from what a command printed, however much it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook.engine.outputs import PRINTED_LIMIT, VALUE_LIMIT, OutputMissing, take_outputs
from runbook.model.actions import ActionResult
from runbook.model.runbook import OutputSpec

ALL = {"all": OutputSpec()}


def printed(path: Path, text: str, *, head: int = 10) -> list[ActionResult]:
    """As a transport tells of it: the beginning, and the file with all of it."""
    path.write_text(text)
    return [ActionResult(ok=True, data={
        "exit_code": 0, "stdout": text[:head], "stdout_path": str(path), "stdout_cut": True})]


def test_outputs_are_of_the_whole_and_not_of_its_beginning(tmp_path: Path) -> None:
    text = json.dumps({"pad": "x" * 70_000, "n": 5, "last": "ü"}, ensure_ascii=False)
    results = printed(tmp_path / "out", text)
    assert take_outputs({
        "all": OutputSpec(), "n": OutputSpec(take="json", pattern="n", type="int"),
        "last": OutputSpec(take="regex", pattern='"last": "(.)"'),
        "code": OutputSpec(take="exit_code", type="int"),
    }, results) == {"all": text, "n": 5, "last": "ü", "code": 0}


def test_what_is_too_large_is_refused_and_never_cut(tmp_path: Path) -> None:
    largest = "x" * (VALUE_LIMIT - 2)
    assert take_outputs(ALL, printed(tmp_path / "out", largest)) == {"all": largest}
    with pytest.raises(OutputMissing, match="output 'all' is larger than 1024 KiB"):
        take_outputs(ALL, printed(tmp_path / "out", largest + "x"))
    results = printed(tmp_path / "out", "")
    with (tmp_path / "out").open("wb") as file:
        file.truncate(PRINTED_LIMIT + 1)
    with pytest.raises(OutputMissing, match="more than 16 MiB"):
        take_outputs(ALL, results)
    assert take_outputs({"code": OutputSpec(take="exit_code", type="int")}, results) == {"code": 0}


def test_where_the_file_is_gone_nothing_is_made_up(tmp_path: Path) -> None:
    results = printed(tmp_path / "out", "x" * 100)
    (tmp_path / "out").unlink()
    with pytest.raises(OutputMissing, match="out, which keeps it, cannot be read"):
        take_outputs(ALL, results)
