"""What the shell and a typing error get from the command itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.running import InProcess


@pytest.fixture
def say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> InProcess:
    return InProcess(tmp_path, monkeypatch, capsys)


def test_a_command_that_is_nearly_one_is_named(say: InProcess) -> None:
    assert "Did you mean 'validate'?" in say("validat", code=2)
    assert "No such command" in say("xyzzy", code=2)


def test_the_shell_is_told_kinds_runs_and_steps(
    say: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(line: str) -> list[str]:
        # By its name the program finds the variable that is meant for it.
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
        monkeypatch.setenv("_RUNBOOK_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        said = say("x").split()
        monkeypatch.delenv("_RUNBOOK_COMPLETE")
        return said

    assert "dns.flip" in completed("runbook explain dns")
    assert completed("runbook status mo") == []
    (tmp_path / "b.yml").write_text(
        "runbook: move\nsteps:\n  - {id: first, kind: shell, with: {command: 'true'}}\n")
    say("run", "b.yml", "--yes")
    (run,) = completed("runbook status mo")
    assert run.startswith("move-")
    assert completed(f"runbook skip {run} fi") == ["first"]
