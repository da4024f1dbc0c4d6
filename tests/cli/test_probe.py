"""``runbook rehearse --level probe`` as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runbook.cli.main import app
from tests.cli.running import command, environment

BOOK = """\
runbook: pages
steps:
  - id: page
    kind: file
    with: {path: www/page.txt, content: "moving\\n", mode: "0644"}
  - id: open
    kind: assert
    with: {command: test -d www}
"""
PROBE = ("rehearse", "book.yml", "--level", "probe")


Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """A command in this process, and what it says."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.yml").write_text(BOOK)

    def typed(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return typed


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_need_that_is_not_met_and_then_drift(say: Say, tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = flat(say(*PROBE, code=25))
    assert f"not met: the folder {home}/www takes files: there is no such folder" in said
    assert f"mend before the run: page: the folder {home}/www takes files" in said
    assert "Since the probe" not in said, "there was none before"
    (home / "www").mkdir()
    said = flat(say(*PROBE))
    assert "not met" not in said
    assert "Fidelity 100%: 2 read. Nothing was changed." in said
    assert f"{home}/www/page.txt: not there → a new file, 7 bytes, mode 0644" in said
    assert "page: the folder" in said and "takes files: unmet → met: yes" in said
    (home / "www" / "page.txt").write_text("somebody else\n")
    told = json.loads(say(*PROBE, "--json"))
    page = told["nodes"][0]
    assert page["changes"] == [f"{home}/www/page.txt: {line}"
                               for line in ("-somebody else", "+moving")]
    changed = {one["what"]: (one["then"], one["now"]) for one in told["drift"]["changed"]}
    assert told["drift"]["same_plan"]
    assert changed["exists"] == ("no", "yes") and changed["kind"] == ("not there", "file")
    assert told["counts"]["read"] == 2 and told["need_counts"]["unmet"] == 0
    kept = json.loads(say("rehearsals", "book.yml", "--json"))
    assert [one["ok"] for one in kept["rehearsals"]] == [True, True, False]
    assert all("seen" not in one["data"] for one in kept["rehearsals"])
    assert f"{len(changed)} things changed since the one before" in say("rehearsals")


def test_of_several_each_is_a_line_and_the_last_one_counts(say: Say, tmp_path: Path) -> None:
    (tmp_path / "home" / "www").mkdir()
    again = ("--every", "1h", "--times", "1")
    first = say(*PROBE, *again).splitlines()
    assert len(first) == 1 and "good  fidelity 100%: 2 read; needs: 3 met" in first[0]
    (tmp_path / "home" / "www").rmdir()
    said = say(*PROBE, *again, code=25)
    assert "NOT good" in said and "things changed" in said
    lines = say(*PROBE, *again, "--json", code=25).splitlines()
    (told,) = map(json.loads, lines)
    assert told["drift"]["changed"] == []
    for wrong in (("--times", "2"), ("--every", "soon"), ("--every", "0")):
        say(*PROBE, *wrong, code=2)
    say("rehearse", "book.yml", "--every", "1h", code=2)


def test_ctrl_c_ends_the_rounds(tmp_path: Path) -> None:
    (tmp_path / "book.yml").write_text(BOOK)
    with subprocess.Popen(
        command(*PROBE, "--every", "1h"), cwd=tmp_path, env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE,
    ) as going:
        assert going.stdout is not None
        assert "NOT good" in going.stdout.readline()
        going.send_signal(signal.SIGINT)
        going.stdout.read()
        assert going.wait(60) == 25
