"""``files.compare`` with the real rsync: it finds every kind of difference, and resumes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from runbook.kinds.files_compare import FilesCompare
from runbook.model.observation import Verdict
from tests.kinds.local_world import LocalWorld

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    for name in ("one", "two", "sub/three", "sub/two\nlines", "sub/\udcff", "sub/end\n", " -x "):
        (source / name).write_text(f"content of {name!r}" * 50)
    (source / "link").symlink_to("one")
    os.link(source / "one", source / "sub/linked")
    shutil.copytree(source, target, symlinks=True)
    (target / "sub/linked").unlink()
    os.link(target / "one", target / "sub/linked")
    return source, target


def judge(world: LocalWorld, source: Path, target: Path, **more: Any) -> Verdict:
    kind = FilesCompare.model_validate(
        {"source": f"{source}/", "destination": str(target), **more}
    )
    before = kind.observe(world)
    results = world.perform(kind.plan(before).actions)
    assert all(result.ok for result in results), results
    return kind.verify(before, kind.observe(world))


def test_equal_trees_are_the_same(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    verdict = judge(world, *trees)
    assert verdict.ok, verdict.seen
    assert verdict.outputs["files"] == 8 and verdict.outputs["differences"] == 0
    left = sorted(p.name for p in (world.root / "home/.runbook/files-compare").rglob("*.*"))
    assert left == [], "only the result stays"


def test_the_folder_itself_without_a_slash(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, target = trees
    (target.parent / "into").mkdir()
    target.rename(target.parent / "into" / "source")
    kind = {"source": str(source), "destination": str(target.parent / "into")}
    made = FilesCompare.model_validate(kind)
    before = made.observe(world)
    assert all(r.ok for r in world.perform(made.plan(before).actions))
    assert made.verify(before, made.observe(world)).ok
    flip(target.parent / "into/source/sub/three")
    again = made.observe(world)
    assert all(r.ok for r in world.perform(made.plan(again).actions))
    assert "source/sub/three: content" in made.verify(again, made.observe(world)).seen


def flip(path: Path) -> None:
    """Change one bit of the content and nothing else."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def same_time(path: Path, change: Any) -> None:
    info = path.stat()
    change(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda t: flip(t / "sub/three"), "sub/three: content"),
    (lambda t: flip(t / "sub/two\nlines"), "sub/two\\#012lines: content"),
    (lambda t: (t / "two").chmod(0o600), "two: mode"),
    (lambda t: os.utime(t / "two", (1, 1)), "two: time"),
    (lambda t: (t / "two").unlink(), "two: missing"),
    (lambda t: (t / "extra").write_text("x"), "extra: only in the destination"),
    (lambda t: same_time(t / "two", lambda p: p.write_text("longer" * 999)), "two: content, size"),
    (lambda t: ((t / "link").unlink(), (t / "link").symlink_to("two")), "link: target"),
    (lambda t: (shutil.copy2(t / "one", t / "x"), (t / "x").replace(t / "sub/linked")),
     "sub/linked: hard link"),
    (lambda t: same_time(t / "two", lambda p: os.setxattr(p, "user.x", b"1")), "two: attributes"),
])
def test_a_difference_is_found_and_named(
    world: LocalWorld, trees: tuple[Path, Path], spoil: Any, told: str
) -> None:
    source, target = trees
    spoil(target)
    verdict = judge(world, source, target)
    assert not verdict.ok
    assert verdict.seen.startswith(f"1 paths differ: {told}"), verdict.seen


def test_what_does_not_matter_can_be_left_out(
    world: LocalWorld, trees: tuple[Path, Path]
) -> None:
    source, target = trees
    (target / "extra").write_text("x")
    (target / "two").write_text("a log")
    assert judge(world, source, target, surplus=True, exclude=["two"]).ok


def test_the_report_is_bounded(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, target = trees
    for number in range(200):
        (source / f"f{number}").write_text("x")
    kind = FilesCompare(source=f"{source}/", destination=str(target))
    before = kind.observe(world)
    result = world.perform(kind.plan(before).actions)[0]
    verdict = kind.verify(before, kind.observe(world))
    assert verdict.outputs["differences"] == 200 and "and 195 more" in verdict.seen
    assert result.data["stdout"].count("missing") == 50


BREAKER = """#!/bin/sh
case "$*" in
  *--checksum*) echo chunk >>{folder}/read
    [ ! -e {folder}/cut ] || [ $(wc -l <{folder}/read) -lt 4 ] || exit 12 ;;
esac
exec {rsync} "$@"
"""


def test_it_goes_on_where_it_was_cut(
    world: LocalWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for number in range(6):
        (source / f"f{number}").write_bytes(os.urandom(700_000))
    shutil.copytree(source, target)
    folder = tmp_path / "bin"
    folder.mkdir()
    breaker = folder / "rsync"
    breaker.write_text(BREAKER.format(folder=folder, rsync=shutil.which("rsync")))
    breaker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    kind = FilesCompare(source=f"{source}/", destination=str(target), chunk=1)
    before = kind.observe(world)
    (folder / "cut").touch()
    result = world.perform(kind.plan(before).actions)[0]
    assert not result.ok and "status 12" in result.data["stderr"]
    assert "nothing was decided" in result.data["stderr"]
    assert not kind.verify(before, kind.observe(world)).ok
    (folder / "cut").unlink()
    (folder / "read").write_text("")
    flip(target / "f5")
    assert world.perform(kind.plan(before).actions)[0].ok
    assert (folder / "read").read_text().count("chunk") < 6, "what was compared is not read again"
    verdict = kind.verify(before, kind.observe(world))
    assert verdict.seen.startswith("1 paths differ: f5: content"), verdict.seen


def test_nothing_on_both_sides_is_no_proof(world: LocalWorld, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    verdict = judge(world, source, target)
    assert not verdict.ok and verdict.final and "nothing was compared" in verdict.seen
    assert judge(world, source, target, empty=True).ok
