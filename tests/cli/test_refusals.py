"""What is refused before a run is created, and the exit code of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.journal import open_store
from tests.cli.running import InProcess

STEPS = """
steps:
  - {id: a, kind: shell, with: {command: "true", env: {X: "{{ secrets.db }}"}}}
"""


@pytest.fixture
def say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> InProcess:
    return InProcess(tmp_path, monkeypatch, capsys)


def write(folder: Path, head: str, steps: str = STEPS) -> None:
    (folder / "book.yml").write_text(f"runbook: r\n{head}{steps}")


def test_a_secret_that_is_missing_is_refused_before_there_is_a_run(
    say: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "secrets: {db: {env: NO_SUCH_PASSWORD}, file: {file: no/such}}\n")
    said = say("run", "book.yml", "--yes", code=11)
    assert "NO_SUCH_PASSWORD is not set" in said and "no/such cannot be read" in said
    assert open_store(tmp_path / "state").runs() == []
    write(tmp_path, "secrets: {db: {env: NO_SUCH_PASSWORD}}\n")
    monkeypatch.setenv("NO_SUCH_PASSWORD", "x")
    say("run", "book.yml", "--yes")


def test_a_script_learns_whether_the_rehearsals_are_enough(say: InProcess, tmp_path: Path) -> None:
    plain = "steps:\n  - {id: a, kind: shell, with: {command: 'true'}}\n"
    write(tmp_path, "policy: {rehearsal: {required: [plan, probe]}}\n", plain)
    say("run", "book.yml", "--yes", code=11)
    said = say("rehearsals", "book.yml", code=11)
    assert "a plan rehearsal" in said and "a probe rehearsal" in said
    assert "runbook rehearse book.yml --level probe" in said
    say("rehearsals", "book.yml", "--json", code=11)
    say("rehearsals")
    say("rehearse", "book.yml", "--level", "probe")
    say("rehearsals", "book.yml")


@pytest.mark.parametrize(("code", "arguments"), [
    (2, ("plan", "book.yml", "--var", "old")),
    (2, ("rehearse", "book.yml", "--level", "simulate", "--failure-rate", "a=7")),
    (13, ("rehearse", "book.yml", "--level", "simulate", "--failure-rate", "b=0.1")),
    (13, ("rehearse", "book.yml", "--level", "sandbox", "--fail", "b")),
    (13, ("rehearse", "book.yml", "--level", "sandbox", "--faults", "kill", "--step", "b")),
    (13, ("run", "book.yml", "--skip", "b")),
])
def test_a_wrong_use_is_one_code_and_an_unknown_name_another(
    say: InProcess, tmp_path: Path, code: int, arguments: tuple[str, ...]
) -> None:
    write(tmp_path, "secrets: {db: {env: NO_SUCH_PASSWORD}}\n")
    (tmp_path / "sandbox.yml").write_text("secrets: {db: x}\n")
    say(*arguments, code=code)
