"""``runbook init``, ``validate`` and ``schema`` as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook.cli.main import run


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of ``runbook WORDS``."""
    monkeypatch.setattr("sys.argv", ["runbook", *words])
    with pytest.raises(SystemExit) as caught:
        run()
    return int(caught.value.code or 0)


def test_init_then_validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "move"
    assert call(monkeypatch, "init", str(folder)) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["inventory.yml", "runbook.schema.json", "runbook.yml"]
    assert call(monkeypatch, "validate", str(folder / "runbook.yml")) == 0
    assert "ok: 6 steps, 6 nodes, 2 hosts, 0 zones" in capsys.readouterr().out


def test_init_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inventory.yml").write_text("mine", encoding="utf-8")
    assert call(monkeypatch, "init", str(tmp_path)) == 11
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["inventory.yml"]
    assert (tmp_path / "inventory.yml").read_text(encoding="utf-8") == "mine"


BAD = "runbook: a\nsteps:\n  - id: b\n    kind: shel\n"
BAD_PLAN = (
    "runbook: a\nsteps:\n  - id: b\n    kind: shell\n    at: window.start\n"
    "    with: {command: 'true'}\n"
)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [(BAD, (4, 11), "there is no kind `shel`"), (BAD_PLAN, (5, 9), "needs a window")],
    ids=["loading", "planning"],
)
def test_validate_tells_every_error(
    text: str, place: tuple[int, int], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "runbook.yml"
    file.write_text(text, encoding="utf-8")
    assert call(monkeypatch, "validate", str(file)) == 10
    printed = capsys.readouterr().err
    assert message in printed
    assert "nothing was touched" in printed
    assert call(monkeypatch, "validate", str(file), "--json") == 10
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert (found["errors"][0]["line"], found["errors"][0]["column"]) == place
    assert message in found["errors"][0]["message"]


def test_validate_json_of_a_good_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(Path(__file__).parent / "good.yml")
    assert call(monkeypatch, "validate", good, "--json", "--var", "name=other") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert (found["steps"], found["nodes"], found["hosts"], found["zones"]) == (5, 6, 3, 2)


def test_schema_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Runbook"
