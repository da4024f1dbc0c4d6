"""``shell`` and ``script`` on the real local transport."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from runbook.errors import Errored
from runbook.kinds.script import Script
from runbook.kinds.shell import Shell
from runbook.model.actions import RunCommand
from runbook.model.observation import Irreversible, Observation
from runbook.model.secrets import mark
from tests.kinds.local_world import SECRET, Life, LocalWorld


def test_creates_makes_it_run_once(world: LocalWorld, tmp_path: Path) -> None:
    life = Life(world, Shell(command="echo x >>made", creates="made", cwd=str(tmp_path)))
    assert life.forward().ok
    assert life.before.state == {"done": False} and life.look().state == {"done": True}
    again = life.again()
    assert again.actions == () and "made exists" in again.reason
    assert (tmp_path / "made").read_text() == "x\n"


def test_done_when_must_hold_afterwards(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "flag"
    good = Life(world, Shell(command=f"touch {path}", done_when=f"test -e {path}"))
    assert good.forward().ok and good.again().actions == ()
    bad = Life(world, Shell(command="true", done_when="test -e /nowhere"))
    verdict = bad.forward()
    assert not verdict.ok and "`test -e /nowhere` gave exit status 1" in verdict.seen


def test_a_question_that_cannot_be_asked_is_not_a_no(world: LocalWorld) -> None:
    with pytest.raises(Errored, match="could not be run"):
        Shell(command="true", done_when="no-such-program").observe(world)
    # dash answers 127 and says nothing: that is a no.
    found = Shell(command="true", done_when="command -v no-such-program").observe(world)
    assert found.state == {"done": False}


@pytest.mark.parametrize("key", ["done_when", "probe"])
def test_another_machine_that_ssh_cannot_reach_is_not_a_no(world: LocalWorld, key: str) -> None:
    """Were it taken for the state before, no undo could ever bring that state back."""
    ssh = "ssh -o BatchMode=yes -o ConnectTimeout=2 -p 1 127.0.0.1 true"
    with pytest.raises(Errored, match="could not be run"):
        Shell.model_validate({"command": "true", key: ssh}).observe(world)
    said = Shell.model_validate({"command": "true", key: "exit 255"}).observe(world)
    assert said.state


def test_without_a_proof_nothing_is_known(world: LocalWorld) -> None:
    life = Life(world, Shell(command="echo out; echo err >&2; exit 7", ok_codes=(0, 7)))
    assert life.forward().ok and life.look().state == {}
    assert life.results[0].data["exit_code"] == 7 and life.results[0].data["stdout"] == "out\n"
    assert len(life.again().actions) == 1


def test_a_failing_command_fails(world: LocalWorld) -> None:
    kind = Shell(command="echo broken >&2; exit 3")
    result = world.perform(kind.plan(kind.observe(world)).actions)[0]
    assert not result.ok and result.data["exit_code"] == 3


def test_a_probe_records_the_state_for_undo(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("old\n")
    kind = Shell(command=f"echo new >{path}", probe=f"cat {path}")
    life = Life(world, kind)
    verdict = life.forward()
    assert verdict.outputs == {"probe": "new"}
    assert life.before.state != life.look().state
    path.write_text("old\n")
    assert life.look().state == life.before.state


def test_undo_without_a_command_is_irreversible_unless_nothing_was_done() -> None:
    kind = Shell(command="x", creates="/y")
    undone = kind.undo(Observation(state={"done": False}))
    assert isinstance(undone, Irreversible) and "undo" in undone.why
    assert kind.undo(Observation(state={"done": True})) == ()


def test_a_secret_reaches_the_command_by_its_environment_alone(
    world: LocalWorld, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    life = Life(world, Shell(
        command=f'printf %s "$PW" >{out}; echo "$PW"', env={"PW": mark("db")},
        done_when=f'test "$(cat {out})" = "$PW"',
    ))
    assert life.forward().ok and out.read_text() == SECRET
    assert SECRET not in repr([life.before, life.results, life.look()])
    with pytest.raises(ValidationError, match="env:"):
        Shell(command=f"mysql -p{mark('db')}")


def test_idempotent_is_told_to_the_action() -> None:
    for given in (True, False):
        kind = Shell.model_validate({"command": "x", "idempotent": given})
        action = kind.plan(Observation(evidence={"host": "web1"})).actions[0]
        assert isinstance(action, RunCommand)
        assert action.idempotent is given and action.host == "web1"


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/bin/sh -eu", "/usr/bin/env bash"])
def test_a_script_gets_its_arguments_and_environment(
    world: LocalWorld, tmp_path: Path, interpreter: str
) -> None:
    (tmp_path / "s.sh").write_text('printf "%s|" "$#" "$1" "$2" "$V" "$PWD"\nexit 4\n')
    kind = Script(
        source="s.sh", args=("a 'b", "$HOME"), interpreter=interpreter, env={"V": "ü"},
        cwd=str(tmp_path), ok_codes=(4,),
    )
    assert kind.local_files() == ("s.sh",)
    life = Life(world, kind)
    assert life.forward().ok
    assert life.results[0].data["stdout"] == f"2|a 'b|$HOME|ü|{tmp_path}|"
    assert life.results[0].data["exit_code"] == 4


def test_a_script_of_another_language_leaves_nothing_behind(
    world: LocalWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    body = "# " + "x" * 5000 + "\nimport sys\nprint('RUNBOOK_END', sys.argv[1:])\n"
    (tmp_path / "s.py").write_text(body)
    kind = Script(
        source="s.py", args=("1",), interpreter="/usr/bin/env python3",
        env={"TMPDIR": str(temp)},
    )
    life = Life(world, kind)
    assert life.forward().ok
    assert life.results[0].data["stdout"] == "RUNBOOK_END ['1']\n"
    assert list(temp.iterdir()) == []


def test_a_script_that_was_not_read_is_never_run_empty() -> None:
    with pytest.raises(ValueError, match="not been read"):
        Script(source="s.sh").plan(Observation())
