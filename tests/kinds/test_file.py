"""``file`` and ``template`` on the real local transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runbook.kinds.file import File
from runbook.kinds.template import Template
from runbook.model.actions import PutFile
from runbook.model.observation import Observation
from runbook.model.secrets import mark
from tests.kinds.local_world import SECRET, Life, LocalWorld


def test_a_new_file_is_written_and_removed_again(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    life = Life(world, File(path=str(path), content="hello\n", mode="0640"))
    verdict = life.forward()
    assert verdict.ok and path.read_text() == "hello\n"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert life.again().actions == () and "already done" in life.again().reason
    life.back()
    assert not path.exists()


def test_an_overwritten_file_is_put_back_byte_for_byte(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "app.conf"
    path.write_bytes(b"old \xff\x00 bytes")
    path.chmod(0o4711)
    life = Life(world, File(path=str(path), content="new"))
    assert life.forward().ok
    assert path.stat().st_mode & 0o7777 == 0o4711, "the mode is kept where none is given"
    life.back()
    assert path.read_bytes() == b"old \xff\x00 bytes"
    assert path.stat().st_mode & 0o7777 == 0o4711


def test_a_mode_alone_is_corrected(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("same")
    path.chmod(0o600)
    life = Life(world, File(path=str(path), content="same", mode="644"))
    assert life.forward().ok and path.stat().st_mode & 0o777 == 0o644
    life.back()
    assert path.stat().st_mode & 0o777 == 0o600


def test_absent_removes_and_undo_brings_back(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_text("precious")
    life = Life(world, File(path=str(path), state="absent"))
    assert life.forward().ok and not path.exists()
    assert life.again().actions == ()
    life.back()
    assert path.read_text() == "precious"


def test_a_symbolic_link_is_replaced_and_put_back(world: LocalWorld, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("t")
    path = tmp_path / "link"
    path.symlink_to("target")
    life = Life(world, File(path=str(path), content="now a file"))
    assert life.forward().ok and not path.is_symlink()
    life.back()
    assert path.is_symlink() and (tmp_path / "target").read_text() == "t"


def test_a_relative_path_starts_at_home(world: LocalWorld, tmp_path: Path) -> None:
    life = Life(world, File(path="conf.d", content="x"))
    assert life.forward().ok and (tmp_path / "home/conf.d").read_text() == "x"
    life.back()
    assert not (tmp_path / "home/conf.d").exists()


def test_a_directory_in_the_way_fails_and_nothing_is_changed(
    world: LocalWorld, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    kind = File(path=str(tmp_path / "d"), content="x")
    before = kind.observe(world)
    results = world.perform(kind.plan(before).actions)
    assert not results[0].ok and "directory" in results[0].detail
    assert not kind.verify(before, kind.observe(world)).ok


def test_a_source_is_compared_by_its_digest(
    world: LocalWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logo.png").write_bytes(bytes(range(256)))
    path = tmp_path / "copied.png"
    kind = File(path=str(path), source="logo.png")
    assert kind.local_files() == ("logo.png",)
    life = Life(world, kind)
    assert life.forward().ok and path.read_bytes() == bytes(range(256))
    assert life.again().actions == ()
    (tmp_path / "logo.png").write_bytes(b"changed")
    assert life.again().actions


def test_a_secret_is_put_in_on_the_way_and_never_shows(world: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    life = Life(world, File(path=str(path), content=f"db:{mark('db')}\n", mode="0600"))
    assert life.forward().ok and path.read_text() == f"db:{SECRET}\n"
    assert len(life.again().actions) == 1, "what cannot be compared is written again"
    shown = [life.kind.preview(), life.before, life.look(), life.kind.plan(life.before),
             life.results]
    assert SECRET not in repr(shown)
    life.back()
    assert not path.exists()


@pytest.mark.parametrize("args", [
    {"path": "/x"}, {"path": "/x", "content": "a", "source": "b"},
    {"path": "/x", "state": "absent", "content": "a"}, {"path": "", "content": "a"},
    {"path": "/x", "content": "a", "mode": "rw-r--r--"}, {"path": "/x", "content": "a",
                                                        "mode": "0999"},
    {"path": f"/x/{mark('db')}", "content": "a"},
])
def test_senseless_keys_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        File.model_validate(args)


def test_a_template_is_rendered_strictly(world: LocalWorld, tmp_path: Path) -> None:
    (tmp_path / "app.j2").write_text("{% for n in names %}host {{ n }}\n{% endfor %}")
    path = tmp_path / "app.conf"
    kind = Template(source="app.j2", path=str(path), vars={"names": ["a", "b"]}, mode="0600")
    assert kind.local_files() == ("app.j2",)
    life = Life(world, kind)
    assert life.forward().ok and path.read_text() == "host a\nhost b\n"
    assert life.again().actions == ()
    life.back()
    assert not path.exists()


@pytest.mark.parametrize(("text", "said"), [
    ("{{ nam }}", "nam"), ("{{ ''.__class__ }}", "t.j2"), ("{% if %}", "t.j2"),
])
def test_a_bad_template_is_told_by_its_file(
    world: LocalWorld, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "t.j2").write_text(text)
    kind = Template(source="t.j2", path=str(tmp_path / "x"), vars={"name": 1})
    with pytest.raises(ValueError, match=r"t\.j2") as found:
        kind.observe(world)
    assert said in str(found.value)


def test_a_template_that_was_not_read_is_never_written_empty() -> None:
    with pytest.raises(ValueError, match="not been rendered"):
        Template(source="t.j2", path="/x").plan(Observation())


def test_the_action_names_the_key_under_which_the_prior_file_is_kept(world: LocalWorld) -> None:
    kind = File(path="/nowhere/x", content="a")
    action = kind.plan(kind.observe(world)).actions[0]
    assert isinstance(action, PutFile)
    assert action.save_as == world.key and action.host is None
