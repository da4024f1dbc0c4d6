"""A canary through every source of secrets is found nowhere it must not be."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import command, environment, runbook

CANARIES = {
    "from_env": "canary-ENV-7f3a91",
    "from_file": "canary-FILE-0b55c2",
    "from_command": "canary-COMMAND-e81d47",
}
BOOK = """
runbook: canary
policy: {on_failure: rollback}
secrets:
  from_env: {env: CANARY}
  from_file: {file: secret.txt}
  from_command: {command: [cat, command.txt]}
steps:
  - id: print
    kind: shell
    with:
      command: |
        echo "out $A"; echo "err $B" >&2; printf %s "$C" | base64
        touch started; until test -e go; do sleep 0.1; done
      cwd: "{{ here }}"
      env: &all
        A: "{{ secrets.from_env }}"
        B: "{{ secrets.from_file }}"
        C: "{{ secrets.from_command }}"
  - id: write
    kind: file
    with: {path: "{{ here }}/app.conf", content: "password={{ secrets.from_env }}\\n", mode: "0600"}
  - id: fail
    kind: shell
    with:
      command: 'echo "refused: $A $B $C" >&2; exit 9'
      env: *all
"""


def found_in(data: bytes) -> list[str]:
    forms = {name: (value.encode(), base64.b64encode(value.encode()).rstrip(b"="))
             for name, value in CANARIES.items()}
    return [name for name, needles in forms.items() if any(n in data for n in needles)]


def command_lines() -> bytes:
    """Every process's command line, as `ps` would show it to anybody."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue  # It ended meanwhile.
    return b"\n".join(lines)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(CANARIES["from_file"] + "\n")
    (tmp_path / "command.txt").write_text(CANARIES["from_command"] + "\n")
    path = tmp_path / "canary.yml"
    path.write_text(BOOK.replace("secrets:\n", f"vars: {{here: {tmp_path}}}\nsecrets:\n", 1))
    return path


def test_secrets_are_found_nowhere(book: Path, tmp_path: Path) -> None:
    env = {"CANARY": CANARIES["from_env"]}
    shown = []
    for arguments in (["validate"], ["plan"], ["plan", "--json"]):
        done = runbook(tmp_path, *arguments, str(book), env=env)
        shown.append(done.stdout + done.stderr)
    running = subprocess.Popen(
        command("run", str(book), "--yes"), cwd=tmp_path, env=environment(tmp_path, env),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )
    with running:
        while not (tmp_path / "started").exists():
            assert running.poll() is None, running.stdout and running.stdout.read()
        assert found_in(command_lines()) == []
        (tmp_path / "go").touch()
        assert running.stdout is not None
        output = running.stdout.read()
    assert running.returncode == 22, output.decode()  # `print` has no undo
    shown.append(output.decode())
    for arguments in (["status"], ["status", "--json"], ["log"], ["log", "--json"],
                      ["log", "--output"], ["report"], ["report", "--format", "html"],
                      ["report", "--format", "json"]):
        done = runbook(tmp_path, *arguments)
        shown.append(done.stdout + done.stderr)
    text = "\n".join(shown)
    assert found_in(text.encode()) == []
    assert "⟦secret:from_env⟧" in text, "the canary went through: its mark is shown"
    kept = [p for folder in ("state", "home") for p in (tmp_path / folder).rglob("*")
            if p.is_file()]
    assert any(p.name == "journal.db" for p in kept)
    leaks = {str(p): found_in(p.read_bytes()) for p in kept}
    assert {p: names for p, names in leaks.items() if names} == {}


def test_the_search_finds_a_canary_that_is_there(tmp_path: Path) -> None:
    """The test above can fail."""
    value = CANARIES["from_env"]
    assert found_in(f"x{value}y".encode()) == ["from_env"]
    assert found_in(base64.b64encode(value.encode())) == ["from_env"]


def test_a_missing_secret_is_named_with_its_source_and_nothing_is_touched(
    book: Path, tmp_path: Path
) -> None:
    done = runbook(tmp_path, "run", str(book), "--yes", code=None)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "from_env" in text
    assert "CANARY" in text
    assert "Traceback" not in text
    assert not (tmp_path / "started").exists()


def test_what_was_done_before_is_not_denied(tmp_path: Path) -> None:
    """A secret that is missing begins no run, and holds one that is half-way."""
    book = tmp_path / "book.yml"
    book.write_text(f"""
runbook: half
secrets: {{word: {{env: WORD}}}}
steps:
  - {{id: one, kind: shell, with: {{command: "echo one >> {tmp_path}/ledger"}}}}
  - {{id: two, kind: shell, with: {{command: "test -e {tmp_path}/mended"}}, on_failure: hold}}
""")
    at_first = runbook(tmp_path, "run", str(book), "--yes", code=11).stderr
    assert "the environment variable WORD is not set" in at_first
    assert not list((tmp_path / "state").glob("runs/*"))
    runbook(tmp_path, "run", str(book), "--yes", env={"WORD": "canary"}, code=20)
    (run,) = (tmp_path / "state" / "runs").iterdir()
    half_way = runbook(tmp_path, "resume", run.name, code=30).stdout
    assert "is not set; nothing further was changed" in half_way
    assert "start again" not in half_way and f"runbook resume {run.name}" in half_way
    (tmp_path / "mended").touch()
    runbook(tmp_path, "resume", run.name, env={"WORD": "canary"})
    assert (tmp_path / "ledger").read_text() == "one\n"
