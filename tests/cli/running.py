"""Running the command as a user does: its own process, own state folder, own home."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from runbook.cli.main import run


def environment(directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    home = directory / "home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNBOOK_")}
    return {**kept, "HOME": str(home), "RUNBOOK_STATE": str(directory / "state"),
            "RUNBOOK_USER": "ada", "NO_COLOR": "1", "COLUMNS": "160", **(more or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runbook", *arguments]


class InProcess:
    """The command in this process: what imports cost is paid once for many commands."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(directory)
        for name in [one for one in os.environ if one.startswith("RUNBOOK_")]:
            monkeypatch.delenv(name)
        for name, value in environment(directory).items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it says: on standard output, and where it ends with another code than 0, also on
        standard error."""
        self._monkeypatch.setattr(sys, "argv", ["runbook", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        said = self._capsys.readouterr()
        found = ended.value.code or 0
        assert found == code, f"{arguments}: {found}\n{said.out}{said.err}"
        return said.out if code == 0 else said.out + said.err


def runbook(
    directory: Path, *arguments: str, env: Mapping[str, str] | None = None, code: int | None = 0,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; ``code`` is the exit code that is expected (None: any)."""
    done = subprocess.run(
        command(*arguments), cwd=directory, env=environment(directory, env), text=True,
        capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False,
    )
    if code is not None:
        told = f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == code, told
    return done
