"""``files.sync`` with the real rsync: what it copies, and that undo restores exactly."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from runbook.errors import Errored, Refused
from runbook.kinds.files_sync import FilesSync
from runbook.model.actions import RunCommand
from runbook.model.inventory import Host
from runbook.model.observation import Irreversible, Observation
from runbook.model.ports import HostReads
from tests.kinds.local_world import Life, LocalWorld, local_world

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

Snapshot = dict[str, tuple[Any, ...]]


def snapshot(root: Path) -> Snapshot:
    """Everything below a folder: type, mode, time, content."""
    found: Snapshot = {}
    for path in [root, *sorted(root.rglob("*"))] if root.exists() else []:
        info = path.lstat()
        if path.is_symlink():
            what: Any = ("link", str(path.readlink()))
        elif path.is_dir():
            what = ("dir", oct(info.st_mode), info.st_mtime_ns)
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            what = ("file", oct(info.st_mode), info.st_mtime_ns, digest)
        found[str(path.relative_to(root))] = what
    return found


def write(root: Path, files: dict[str, str], *, mtime: float = 1_000_000_000) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (mtime, mtime))
    age(root, mtime)


def age(root: Path, mtime: float) -> None:
    """Set the times of all folders: rsync takes two of the same second for the same."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (mtime, mtime))


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, {"same": "1", "new": "2", "changed": "new text", "sub/deep/new": "4",
                   "sub/same": "5", "ü -b": "6", "perm": "7", "-x": "8", "# y": "9", ";z": "10"})
    (source / "empty").mkdir()
    (source / "link").symlink_to("same")
    (source / "perm").chmod(0o600)
    write(target, {"same": "1", "changed": "old", "sub/same": "5", "perm": "7", "extra": "e",
                   "old/dir/file": "f", " spaces ": "g"}, mtime=999_999_999)
    os.utime(target / "same", (1_000_000_000, 1_000_000_000))
    os.utime(target / "perm", (1_000_000_000, 1_000_000_000))
    (target / "old/dir").chmod(0o750)
    (target / "link").symlink_to("elsewhere")
    age(source, 1_000_000_100)
    age(target, 1_000_000_200)
    return source, target


def kind_of(source: Path, target: Path, **more: Any) -> FilesSync:
    return FilesSync.model_validate({"source": f"{source}/", "destination": str(target), **more})


@pytest.mark.parametrize("more", [
    {"delete": True}, {}, {"checksum": True, "delete": True}, {"options": ["-H"]},
])
def test_it_copies_and_goes_back_exactly(
    world: LocalWorld, trees: tuple[Path, Path], more: dict[str, Any]
) -> None:
    source, target = trees
    was = snapshot(target)
    life = Life(world, kind_of(source, target, **more))
    verdict = life.forward()
    assert verdict.ok, verdict.seen
    assert verdict.outputs["files"] >= 6 and verdict.outputs["bytes"] > 0
    if more.get("delete"):
        assert snapshot(target) == snapshot(source)
    else:
        assert (target / "extra").read_text() == "e"
    assert life.again().actions == () and "does not differ" in life.again().reason
    life.back()
    assert snapshot(target) == was


def test_a_new_destination_is_removed_again(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, _ = trees
    target = source.parent / "fresh"
    life = Life(world, kind_of(source, target))
    assert life.forward().ok and snapshot(target) == snapshot(source)
    life.back()
    assert not target.exists()


def test_the_folder_itself_without_a_slash(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, target = trees
    was = snapshot(target)
    kind = FilesSync(source=str(source), destination=f"{target}/")
    life = Life(world, kind)
    assert life.forward().ok and (target / "source/new").read_text() == "2"
    life.back()
    assert snapshot(target) == was


def test_types_that_change_are_put_back(world: LocalWorld, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, {"a": "file now", "b/in": "folder now", "c/y": "folder, was a link"})
    write(target, {"a/deep/er": "was a folder", "b": "was a file", "outside/y": "not ours"})
    (target / "c").symlink_to("outside")
    age(target, 1_000_000_200)
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True, exclude=["outside"]))
    assert life.forward().ok
    assert (target / "outside/y").read_text() == "not ours"
    assert not (target / "c").is_symlink()
    life.back()
    assert snapshot(target) == was


def test_a_second_attempt_keeps_what_the_first_found(
    world: LocalWorld, trees: tuple[Path, Path]
) -> None:
    source, target = trees
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True))
    life.forward()
    write(source, {"changed": "again", "later": "x"}, mtime=1_000_000_500)
    second = life.kind.plan(life.look())
    assert all(result.ok for result in world.perform(second.actions))
    assert (target / "changed").read_text() == "again"
    actions = life.kind.undo(life.before)
    assert not isinstance(actions, Irreversible)
    assert all(result.ok for result in world.perform(actions))
    assert snapshot(target) == was


def test_a_whole_home_folder_keeps_what_undo_needs(world: LocalWorld, tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    write(source, {"a": "new", ".runbook/theirs": "x"})
    write(home, {"a": "old", "b": "gone", ".runbook/mine": "spool"})
    life = Life(world, kind_of(source, home, delete=True))
    assert life.forward().ok
    assert sorted(path.name for path in home.iterdir()) == [".runbook", "a"]
    assert (home / ".runbook/mine").exists() and not (home / ".runbook/theirs").exists()
    life.back()
    assert (home / "a").read_text() == "old" and (home / "b").read_text() == "gone"
    assert not (home / ".runbook/files").exists(), "nothing is left of it"


def test_undo_may_be_repeated(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, target = trees
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True))
    life.forward()
    life.back()
    actions = life.kind.undo(life.before)
    assert not isinstance(actions, Irreversible)
    assert all(result.ok for result in world.perform(actions))
    assert snapshot(target) == was


def test_names_that_cannot_be_kept_stop_it_before_anything_is_copied(
    world: LocalWorld, trees: tuple[Path, Path]
) -> None:
    source, target = trees
    (source / "control\x01").write_text("x")
    was = snapshot(target)
    kind = kind_of(source, target, delete=True)
    result = world.perform(kind.plan(kind.observe(world)).actions)[0]
    assert not result.ok and result.data["exit_code"] == 65
    assert "nothing was copied" in result.data["stderr"]
    assert snapshot(target) == was


def test_excluded_files_are_left_alone(world: LocalWorld, trees: tuple[Path, Path]) -> None:
    source, target = trees
    life = Life(world, kind_of(source, target, delete=True, exclude=["extra", "sub/"]))
    assert life.forward().ok
    assert (target / "extra").exists() and not (target / "sub/deep").exists()


def test_an_observation_lists_at_most_fifty_differences(world: LocalWorld, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, {f"f{i}": "x" * i for i in range(80)})
    target.mkdir()
    seen = kind_of(source, target).observe(world).evidence
    assert seen["files"] == 80 and seen["bytes"] == sum(range(80))
    assert seen["differences"] == 80 and len(seen["sample"]) == 50


def test_a_source_that_is_not_there_is_an_error_not_a_difference(
    world: LocalWorld, tmp_path: Path
) -> None:
    with pytest.raises(Errored, match="No such file"):
        kind_of(tmp_path / "missing", tmp_path).observe(world)


SSH = """#!/bin/sh
# What sshd would do: run the command in the other machine's home folder.
echo "$@" >>{log}
until [ "${{1#*@}}" = 203.0.113.10 ]; do shift; done
shift
HOME={home}; export HOME; cd "$HOME" && exec /bin/sh -c "$*"
"""


@pytest.fixture
def west(tmp_path: Path) -> Path:
    """The home folder of a host in the west, and a remote shell that leads there."""
    home = tmp_path / "west-home"
    home.mkdir()
    shell = tmp_path / "ssh"
    shell.write_text(SSH.format(log=tmp_path / "ssh.log", home=home))
    shell.chmod(0o755)
    return home


@pytest.fixture
def pair(tmp_path: Path, world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> LocalWorld:
    """The world with a host in the west, which the controller does not reach here."""
    host = Host(name="west", address="203.0.113.10", user="ops", port=2222)
    reads = Mock(spec=HostReads, host=host)
    monkeypatch.setattr(world, "on", {"west": reads}.get)
    return world


def test_a_push_is_undone_on_the_host_it_went_to(
    pair: LocalWorld, trees: tuple[Path, Path], west: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, _ = trees
    write(west / "shop dir", {"changed": "there before", "extra": "e"})
    was = snapshot(west / "shop dir")
    kind = FilesSync.model_validate({
        "source": f"{source}/", "to": "west", "destination": "shop dir", "delete": True,
        "rsh": str(tmp_path / "ssh"),
    })
    life = Life(pair, kind)
    assert life.forward().ok
    assert snapshot(west / "shop dir") == snapshot(source)
    assert "-p 2222" in (tmp_path / "ssh.log").read_text()
    assert not (tmp_path / "home/.runbook/files").exists(), "what was there is kept where it was"
    actions = kind.undo(life.before)
    assert not isinstance(actions, Irreversible)
    action = actions[-1]
    assert isinstance(action, RunCommand) and (action.host, action.run_as) == ("west", "ops")
    monkeypatch.setenv("HOME", str(west))
    with local_world(tmp_path / "other") as there:
        here = action.model_copy(update={"host": None, "run_as": None})
        assert there.perform((here,))[0].ok
    assert snapshot(west / "shop dir") == was


def test_a_pull_is_undone_here(
    pair: LocalWorld, trees: tuple[Path, Path], west: Path, tmp_path: Path
) -> None:
    _, target = trees
    write(west / "up", {"a": "1", "b/c": "2"})
    was = snapshot(target)
    kind = FilesSync.model_validate({
        "source": "up/", "from": "west", "destination": str(target), "delete": True,
        "rsh": str(tmp_path / "ssh"),
    })
    life = Life(pair, kind)
    assert life.forward().ok and snapshot(target) == snapshot(west / "up")
    life.back()
    assert snapshot(target) == was


def written_by_the_new_side(target: Path) -> Snapshot:
    (target / "new dir").mkdir()
    (target / "new dir/two\nlines").write_text("new")
    (target / "changed").write_text("changed by the new side")
    (target / "same").unlink()
    (target / "empty").rmdir()
    (target / "empty").write_text("a file now")
    return snapshot(target)


def test_a_pull_carries_back_what_was_written_meanwhile(
    pair: LocalWorld, trees: tuple[Path, Path], west: Path, tmp_path: Path
) -> None:
    source, target = trees
    source.rename(west / "up")
    was = snapshot(target)
    kind = FilesSync.model_validate({
        "source": "up/", "from": "west", "destination": str(target), "delete": True,
        "back": "carry", "rsh": str(tmp_path / "ssh"),
    })
    life = Life(pair, kind)
    assert life.forward().ok and life.again().actions == ()
    written = written_by_the_new_side(target)
    life.back()
    assert contents(snapshot(west / "up")) == contents(written)
    assert snapshot(target) == was
    assert not (west / ".runbook").exists() and not (west / "up/.runbook").exists()
    assert not (tmp_path / "home/.runbook/files-source").exists()


def contents(tree: Snapshot) -> Snapshot:
    """Without the times of folders."""
    return {name: what[:2] if what[0] == "dir" else what for name, what in tree.items()}


STOPPER = """#!/bin/sh
case "$*" in
  *--backup-dir* | *--dry-run* | *-aHn* | *--files-from* | *--link-dest*) ;;
  *)
    [ ! -e {folder}/count ] || echo x >>{folder}/count
    [ ! -e {folder}/count ] || [ $(wc -l <{folder}/count) != {number} ] || exit 12 ;;
esac
exec {rsync} "$@"
"""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_carrying_back_may_be_cut_at_any_moment(
    world: LocalWorld, trees: tuple[Path, Path], tmp_path: Path, number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copied aside, the destination made as the source is, put in its place: each is cut once."""
    source, target = trees
    was = snapshot(target)
    stopper = tmp_path / "bin/rsync"
    stopper.parent.mkdir()
    stopper.write_text(STOPPER.format(
        folder=tmp_path / "bin", number=number, rsync=shutil.which("rsync")
    ))
    stopper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stopper.parent}:{os.environ['PATH']}")
    life = Life(world, kind_of(source, target, delete=True, back="carry"))
    assert life.forward().ok
    written = written_by_the_new_side(target)
    (stopper.parent / "count").write_text("")
    actions = life.kind.undo(life.before)
    assert not isinstance(actions, Irreversible)
    assert not world.perform(actions[:1])[0].ok, "it was cut"
    life.back()
    assert contents(snapshot(source)) == contents(written)
    assert snapshot(target) == was


def test_names_of_every_kind_are_put_back(world: LocalWorld, tmp_path: Path) -> None:
    names = ("two\nlines", "end\n", "\n", "tab\t", "\\#012", "\x1b[31m", " ", "-rf", "*", "'\"")
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, dict.fromkeys(names, "new") | {f"d{name}/x": "y" for name in names})
    write(target, dict.fromkeys(names[:5], "older") | {f"gone{name}": "z" for name in names})
    (source / "\udcff").write_text("not UTF-8")
    age(target, 1_000_000_200)
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True))
    assert life.forward().ok
    assert contents(snapshot(target)) == contents(snapshot(source))
    life.back()
    assert snapshot(target) == was


def test_a_remote_shell_that_fails_keeps_the_target_untouched(
    pair: LocalWorld, trees: tuple[Path, Path], west: Path, tmp_path: Path
) -> None:
    source, _ = trees
    kind = FilesSync.model_validate({
        "source": f"{source}/", "to": "west", "destination": "x", "rsh": str(tmp_path / "ssh"),
    })
    before = kind.observe(pair)
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 255\n")
    result = pair.perform(kind.plan(before).actions)[0]
    assert not result.ok and result.data["exit_code"] == 255
    assert list(west.iterdir()) == []


def test_a_machine_outside_the_inventory_cannot_be_put_back() -> None:
    kind = FilesSync(source="/a/", destination="backup@nas:/b")
    seen = {"key": "k", "host": None}
    undone = kind.undo(Observation(evidence={**seen, "differences": 1}))
    assert isinstance(undone, Irreversible) and "to:" in undone.why
    assert kind.undo(Observation(evidence={**seen, "differences": 0})) == ()


@pytest.mark.parametrize("args", [
    {"source": "a:/x", "destination": "b:/y"}, {"source": "a:/x", "to": "b", "destination": "/y"},
    {"source": "a:/x", "from": "a", "destination": "/y"}, {"source": "~/x", "destination": "/y"},
    {"source": "/x", "destination": "/y", "options": ["-n"]},
    {"source": "/x", "destination": "/y", "options": ["--backup-dir=/z"]},
    {"source": "/x", "destination": "/y", "options": ["/z"]},
    {"source": "/x", "destination": "/y", "options": ["--partial-dir=/z"]},
    {"source": "/x", "destination": "/y", "passes": 3},
    {"source": "/x", "destination": "/y", "keep": "relative"},
    {"source": "/x/", "destination": "/y", "back": "carry"},
    {"source": "/x", "destination": "/y", "back": "carry", "delete": True},
    {"source": "/x/", "destination": "/y", "back": "carry", "delete": True, "live": True},
    {"source": "/x/", "destination": "a:/y", "back": "carry", "delete": True},
])
def test_senseless_keys_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilesSync.model_validate(args)


MEDDLER = """#!/bin/sh
case "$*" in
  *--backup-dir*) echo "newer" >{source}/same; echo "brand new" >{source}/late ;;
esac
exec {rsync} "$@"
"""


@pytest.fixture
def meddled(
    trees: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """The two trees, and somebody who changes the source once the pass is at work."""
    source, target = trees
    meddler = tmp_path / "bin/rsync"
    meddler.parent.mkdir()
    meddler.write_text(MEDDLER.format(source=source, rsync=shutil.which("rsync")))
    meddler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{meddler.parent}:{os.environ['PATH']}")
    return source, target


def test_what_changed_during_the_copy_is_put_back(
    world: LocalWorld, meddled: tuple[Path, Path]
) -> None:
    """The list of what would be done knew nothing of it."""
    source, target = meddled
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True))
    life.forward()
    assert (target / "late").exists() and (target / "same").read_text() == "newer\n"
    life.back()
    assert snapshot(target) == was


def test_what_could_not_be_kept_is_told_by_undo(
    world: LocalWorld, meddled: tuple[Path, Path], tmp_path: Path
) -> None:
    """Retouched during the copy, and not replaced: nobody knows how it was."""
    source, target = meddled
    meddler = tmp_path / "bin/rsync"
    meddler.write_text(meddler.read_text().replace(f'echo "newer" >{source}/same',
                                                   f"chmod 600 {source}/same"))
    was = snapshot(target)
    life = Life(world, kind_of(source, target, delete=True))
    life.forward()
    actions = life.kind.undo(life.before)
    assert not isinstance(actions, Irreversible)
    result = world.perform(actions)[-1]
    assert not result.ok and result.data["exit_code"] == 3
    assert result.data["stderr"].splitlines()[-1] == "same"
    now = snapshot(target)
    del now["same"], was["same"]
    assert now == was, "all the rest was put back"


KILLER = """#!/bin/sh
case "$*" in
  *--backup-dir*) ;;
  *) exec {rsync} "$@" ;;
esac
touch {source}/late
{rsync} "$@"
kill -9 $PPID
"""


def test_a_copy_that_was_killed_is_put_back(
    world: LocalWorld, trees: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything was copied, and nobody lived to note what."""
    source, target = trees
    killer = tmp_path / "bin/rsync"
    killer.parent.mkdir()
    killer.write_text(KILLER.format(source=source, rsync=shutil.which("rsync")))
    killer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{killer.parent}:{os.environ['PATH']}")
    was = snapshot(target)
    kind = kind_of(source, target, delete=True, live=True)
    before = kind.observe(world)
    result = world.perform(kind.plan(before).actions)[0]
    assert not result.ok and not (target / "extra").exists() and (target / "late").exists()
    actions = kind.undo(before)
    assert not isinstance(actions, Irreversible)
    assert all(result.ok for result in world.perform(actions))
    assert snapshot(target) == was


def test_a_change_within_the_same_second_is_seen(world: LocalWorld, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, {"a": "one"}, mtime=1_000_000_000.25)
    write(target, {"a": "two"}, mtime=1_000_000_000.75)
    was = snapshot(target)
    life = Life(world, kind_of(source, target))
    assert life.forward().ok
    assert (target / "a").read_text() == "one"
    life.back()
    assert snapshot(target) == was


def test_a_source_that_is_empty_empties_nothing(world: LocalWorld, tmp_path: Path) -> None:
    """As where its file system is not mounted: other rights of the folder itself are no content."""
    source, target = tmp_path / "source", tmp_path / "target"
    write(target, {"a": "1", "sub/b": "2"})
    source.mkdir(mode=0o700)
    (source / ".runbook").mkdir()
    given = {"source": f"{source}/", "destination": str(target), "delete": True}
    kind = FilesSync.model_validate(given)
    with pytest.raises(Refused, match=r"there is nothing in .*`delete` would empty"):
        kind.plan(kind.observe(world))
    meant = FilesSync.model_validate(given | {"empty": True})
    before = meant.observe(world)
    assert all(result.ok for result in world.perform(meant.plan(before).actions))
    assert meant.verify(before, meant.observe(world)).ok and not list(target.iterdir())
    write(target, {"a": "1"})
    (source / "only a folder").mkdir()
    assert kind.plan(kind.observe(world)).actions


@pytest.mark.parametrize("option", ["--update", "-u", "--size-only", "--max-size=3", "--exclude=x",
                                    "--ignore-existing", "-rzm", "--no-r", "--filter=- x"])
def test_options_that_choose_prove_nothing(option: str) -> None:
    given = {"source": "/a/", "destination": "/b", "options": [option]}
    with pytest.raises(ValidationError, match="different trees would pass for the same"):
        FilesSync.model_validate(given)
    assert FilesSync.model_validate(given | {"live": True}).options == (option,)
    for fine in ("--bwlimit=5m", "--compress", "-z", "-x", "--modify-window=1", "-W"):
        FilesSync.model_validate(given | {"options": [fine]})
