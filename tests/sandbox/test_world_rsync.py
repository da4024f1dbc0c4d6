"""The stand-in for rsync on machines that have none, run by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook.sandbox import shims

SCRIPT = Path(shims.__file__).parent / "rsync.py"


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Two hosts, ``a`` with a tree ``src``; commands run on ``a``."""
    (tmp_path / "env").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / "env" / f"{name}.home").write_text(str(tmp_path / name))
    source = tmp_path / "a" / "src"
    (source / "sub").mkdir(parents=True)
    (source / "one").write_text("1")
    (source / "one").chmod(0o640)
    (source / "sub" / "two").write_text("2")
    (source / "link").symlink_to("one")
    return tmp_path / "a", tmp_path / "b"


def rsync(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RUNBOOK_SANDBOX_DIR": str(home.parent)}
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), *args],
        cwd=home, env=env, capture_output=True, text=True, timeout=20, check=False,
    )


def test_it_copies_a_folders_content_or_the_folder(homes: tuple[Path, Path]) -> None:
    a, b = homes
    assert rsync(a, "-a", "-e", "ssh", "src/", "root@b:into").returncode == 0
    assert rsync(a, "-avz", "--checksum", "src", "b:whole/").returncode == 0
    for root in (b / "into", b / "whole" / "src"):
        assert (root / "one").read_text() == "1"
        assert (root / "one").stat().st_mode & 0o777 == 0o640
        assert (root / "one").stat().st_mtime == (a / "src" / "one").stat().st_mtime
        assert (root / "sub" / "two").read_text() == "2"
        assert (root / "link").readlink() == Path("one")


def test_delete_removes_what_the_source_has_not(homes: tuple[Path, Path]) -> None:
    a, b = homes
    (b / "into" / "old").mkdir(parents=True)
    (b / "into" / "old" / "file").touch()
    assert rsync(a, "-a", "src/", "b:into").returncode == 0
    assert (b / "into" / "old" / "file").exists()
    assert rsync(a, "-a", "--delete", "src/", "b:into").returncode == 0
    assert not (b / "into" / "old").exists()
    assert (b / "into" / "one").exists()


def test_it_fetches_and_copies_single_files(homes: tuple[Path, Path]) -> None:
    a, b = homes
    (b / "far").write_text("far")
    assert rsync(a, "-a", "b:far", "near").returncode == 0
    assert (a / "near").read_text() == "far"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("-a", "--bwlimit=1", "src/", "b:x"), 1),
        (("-a", "--out-format=%f", "src/", "b:x"), 1),
        (("-a", "src/"), 1),
        (("-a", "nosuch", "b:x"), 23),
        (("-a", "src/", "nowhere:x"), 255),
    ],
)
def test_what_it_cannot_do_it_refuses(
    homes: tuple[Path, Path], args: tuple[str, ...], code: int
) -> None:
    a, b = homes
    said = rsync(a, *args)
    assert said.returncode == code
    assert said.stderr.startswith("rsync: ")
    assert not (b / "x").exists()


def test_a_dry_run_lists_what_the_real_run_then_does(homes: tuple[Path, Path]) -> None:
    a, b = homes
    args = ("-a", "-8", "--out-format=%i %l %n", "--delete", "--exclude=two", "src/", "b:into/")
    (b / "into").mkdir()
    (b / "into" / "old").write_text("x")
    (b / "into" / "one").write_text("other")
    os.utime(b / "into" / "one", (0, 0))
    dry = rsync(a, "-n", *args)
    lines = dry.stdout.splitlines()
    assert [line.split()[-1] for line in lines if not line.startswith(".d")] == [
        "link", "one", "sub/", "old"
    ]
    assert "<f.st" in dry.stdout
    assert "cd+++++++++" in dry.stdout
    assert "*deleting   0 old" in dry.stdout
    assert sorted(p.name for p in (b / "into").iterdir()) == ["old", "one"], "nothing was done"
    assert rsync(a, *args).stdout == dry.stdout
    assert sorted(p.name for p in (b / "into").rglob("*")) == ["link", "one", "sub"]
    assert rsync(a, "-n", *args).stdout == "", "nothing is left to do"


def test_checksum_sees_what_size_and_time_hide(homes: tuple[Path, Path]) -> None:
    a, b = homes
    assert rsync(a, "-a", "src/", "b:into").returncode == 0
    stamp = (a / "src" / "one").stat().st_mtime
    (b / "into" / "one").write_text("9")
    os.utime(b / "into" / "one", (stamp, stamp))
    quiet = ("-an", "--out-format=%i %l %n", "src/", "b:into")
    assert rsync(a, *quiet).stdout == ""
    assert rsync(a, "--checksum", *quiet).stdout == "<fc........ 1 one\n"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync here to compare with")
def test_its_lists_are_those_of_rsync(homes: tuple[Path, Path]) -> None:
    a, b = homes
    (b / "into" / "sub").mkdir(parents=True)
    (b / "into" / "sub" / "two").write_text("22")
    (b / "into" / "surplus").mkdir()
    (b / "into" / "one").write_text("1")
    (b / "into" / "one").chmod(0o600)
    os.utime(b / "into" / "one", (0, (a / "src" / "one").stat().st_mtime))
    args = ["-an", "--out-format=%i %l %n", "--delete", "src/", "../b/into/"]
    real = subprocess.run(
        ["rsync", *args], cwd=a, capture_output=True, text=True, timeout=20, check=True
    ).stdout

    def told(text: str) -> set[str]:
        """Without the lengths of folders, and the times, which differ by a run."""
        return {
            line for line in text.replace("..t", "...").splitlines()
            if not line.startswith((".d", "cd"))
        }

    assert told(rsync(a, *args).stdout) == told(real)
    assert len(told(real)) >= 4
