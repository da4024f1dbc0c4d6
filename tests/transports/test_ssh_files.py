"""PutFile: on the controller everywhere, and over a real OpenSSH server with SFTP."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt, Refused
from runbook.model.actions import ActionResult, FileContent, PutFile
from runbook.model.inventory import Inventory
from runbook.transports.ssh.pool import SshPool
from tests.transports.ssh_lab import (
    HASTY,
    SSHD,
    Sshd,
    key,
    make_pool,
    needs_root,
    needs_sshd,
    needs_sudo,
    silent,
)

MARK = "⟦secret:PW⟧"
PW = "correct-horse-battery"


class Files:
    """One host's files, through a pool."""

    def __init__(self, pool: SshPool, host: str | None, spool: Path) -> None:
        self.pool = pool
        self.host = host
        self.spool = spool
        self.count = 0

    def put(self, path: Path, *, again: bool = False, **changes: object) -> ActionResult:
        """A new key each time, unless ``again``."""
        self.count += 0 if again else 1
        action = PutFile.model_validate({"host": self.host, "path": str(path), **changes})
        return self.pool.perform(action, key(f"put{self.count}"), silent)


@pytest.fixture(params=[
    "controller", pytest.param("host", marks=[pytest.mark.lab, needs_sshd, needs_root]),
])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    server: Sshd | None = None
    if request.param == "host" and SSHD is not None:
        server = Sshd.make(tmp_path / "server")
        server.start()
        pool = make_pool(server.inventory(), tmp_path / "state", secrets={"PW": PW})
        yield Files(pool, "web1", server.home / ".runbook/move-1")
    else:
        pool = make_pool(Inventory(), tmp_path / "state", secrets={"PW": PW})
        yield Files(pool, None, tmp_path / "state/spool/move-1")
    pool.close()
    if server is not None:
        server.stop()


def text(value: str) -> FileContent:
    return FileContent(text=value)


def no_leftovers(folder: Path) -> bool:
    return not [path for path in folder.iterdir() if path.name.startswith(".runbook")]


def test_a_new_file(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "dir with space" / "né w'.conf"
    path.parent.mkdir()
    assert files.put(path, content=text("a\nb"), mode=0o600).ok
    assert path.read_text() == "a\nb"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert no_leftovers(path.parent)
    assert files.put(path.with_name("other"), content=text("")).ok
    assert path.with_name("other").stat().st_mode & 0o7777 == 0o644


def test_replacing_keeps_the_mode_and_is_atomic(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o4750)
    before = path.stat().st_ino
    with path.open() as held:
        assert files.put(path, content=text("new")).ok
        assert held.read() == "old", "who has the old file open still reads the old one"
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("new", 0o4750)
    assert path.stat().st_ino != before


def test_binary_content_of_a_local_file(files: Files, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    assert files.put(tmp_path / "copy", content=FileContent(local=str(source))).ok
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    with pytest.raises(Errored, match="does not exist"):
        files.put(tmp_path / "copy", content=FileContent(local=str(tmp_path / "none")))


def test_a_secret_is_in_the_file_and_nowhere_else(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "pw.conf"
    result = files.put(path, content=text(f"password={MARK}\n"), mode=0o600, save_as="pw")
    assert result.ok
    assert path.read_text() == f"password={PW}\n"
    spooled = [p for p in files.spool.rglob("*") if p.is_file()]
    assert spooled
    assert not [p for p in spooled if PW.encode() in p.read_bytes()]
    assert PW not in result.model_dump_json()


@pytest.mark.parametrize("prior", ["file", "absent", "link", "empty"])
def test_what_was_there_is_put_back_exactly(files: Files, tmp_path: Path, prior: str) -> None:
    path = tmp_path / "f"
    if prior in ("file", "empty"):
        path.write_bytes(b"old\0\nbytes\n\n" if prior == "file" else b"")
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
    elif prior == "link":
        path.symlink_to(tmp_path)
    before = None if prior == "absent" else (path.lstat().st_mode, path.lstat().st_uid)
    assert files.put(path, content=text("new"), mode=0o600, owner=_me(), save_as="k").ok
    assert path.read_text() == "new" and not path.is_symlink()
    assert files.put(path, content=FileContent(saved="k")).ok
    if prior == "absent":
        assert not path.exists()
    else:
        assert (path.lstat().st_mode, path.lstat().st_uid) == before
    if prior in ("file", "empty"):
        assert path.read_bytes() == (b"old\0\nbytes\n\n" if prior == "file" else b"")
    if prior == "link":
        assert path.readlink() == tmp_path
    assert no_leftovers(tmp_path)


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def test_a_second_attempt_does_not_keep_the_first_ones_work(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    assert files.put(path, content=text("first"), save_as="k").ok
    assert files.put(path, content=text("second"), save_as="k").ok
    assert files.put(path, content=FileContent(saved="k")).ok
    assert path.read_text() == "old"


def test_the_same_key_takes_effect_once(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert files.put(path, content=text("ours"), save_as="k").ok
    path.write_text("changed by somebody since")
    assert files.put(path, again=True, content=text("ours"), save_as="k").ok
    assert path.read_text() == "changed by somebody since"
    assert not list((files.spool / "up").iterdir())
    with pytest.raises(InDoubt, match="another command"):
        files.put(path, again=True, content=text("other"), save_as="k")


def test_what_was_kept_outlives_the_tidying_up_after_the_run(
    files: Files, tmp_path: Path
) -> None:
    """A finished run can still be taken back: outputs go, what an undo needs stays."""
    path = tmp_path / "f"
    path.write_text("old")
    assert files.put(path, content=text("new"), save_as="k").ok
    files.pool.prune()
    assert files.put(path, content=FileContent(saved="k")).ok
    assert path.read_text() == "old"
    assert len(list(files.spool.glob("*/out"))) == 2, "of the undo, and what was kept"


def test_removing_and_putting_back(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    assert files.put(path, content=None, save_as="k").ok
    assert not path.exists()
    assert files.put(path, content=None).ok, "gone already is as wanted"
    assert files.put(path, content=FileContent(saved="k")).ok
    assert path.read_text() == "old"


def test_refusals_of_the_world_change_nothing(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, content, why in (
        (folder, text("x"), "is a directory"),
        (folder, None, "is a directory"),
        (tmp_path / "none" / "f", text("x"), "does not exist"),
        (tmp_path / "f", FileContent(saved="never"), "no longer in the host's spool"),
    ):
        result = files.put(path, content=content)
        assert not result.ok and why in result.detail, result.detail
    result = files.put(folder, content=text("x"), save_as="dir")
    assert not result.ok and result.detail.startswith("cannot keep the prior file")
    result = files.put(tmp_path / "f", content=text("x"), owner="no-such-user")
    assert not result.ok and "owner" in result.detail
    assert not (tmp_path / "f").exists()
    with pytest.raises(Refused, match="absolute"):
        files.put(Path("relative"), content=text("x"))
    with pytest.raises(Refused, match="PW"):
        files.put(tmp_path / MARK, content=text("x"))


def test_resolving_a_file(files: Files, tmp_path: Path) -> None:
    action = PutFile(host=files.host, path=str(tmp_path / "f"), content=text("x"), save_as="k")
    assert files.pool.resolve(action, key()).outcome == "not_done"
    files.pool.perform(action, key(), silent)
    found = files.pool.resolve(action, key())
    assert found.outcome == "done" and found.result is not None and found.result.ok


@needs_root
@needs_sudo
def test_as_another_user(files: Files, tmp_path: Path) -> None:
    """Content and what is kept pass through spools that the other user cannot enter."""
    folder = Path("/tmp") / f"runbook-test-{os.getpid()}-{files.host}"
    folder.mkdir(mode=0o755)
    try:
        os.chown(folder, 65534, 65534)
        path = folder / "f"
        path.write_text("old")
        os.chown(path, 65534, 65534)
        path.chmod(0o600)
        assert files.put(path, content=text(f"new {MARK}"), run_as="nobody", save_as="k").ok
        assert (path.read_text(), path.stat().st_uid) == (f"new {PW}", 65534)
        assert files.put(path, content=FileContent(saved="k"), run_as="nobody").ok
        assert (path.read_text(), path.stat().st_mode & 0o777) == ("old", 0o600)
        mine = tmp_path / "mine"
        mine.write_text("root's")
        result = files.put(mine, content=text("x"), run_as="nobody")
        assert not result.ok
        assert mine.read_text() == "root's"
    finally:
        for leftover in folder.iterdir():
            leftover.unlink()
        folder.rmdir()


@pytest.mark.lab
@needs_sshd
@needs_root
def test_one_session_at_a_time_is_enough_for_sftp(tmp_path: Path) -> None:
    server = Sshd.make(tmp_path / "server", "MaxSessions 1")
    server.start()
    pool = make_pool(server.inventory(), tmp_path / "state")
    try:
        files = Files(pool, "web1", server.home / ".runbook/move-1")
        for number in range(3):
            assert files.put(tmp_path / "f", content=text(str(number))).ok
            assert (tmp_path / "f").read_text() == str(number)
            assert pool.host_reads("web1").query("echo between").stdout == "between\n"
    finally:
        pool.close()
        server.stop()


@pytest.mark.lab
@needs_sshd
@needs_root
def test_a_connection_cut_before_the_upload_is_no_harm(tmp_path: Path) -> None:
    server = Sshd.make(tmp_path / "server")
    server.start()
    pool = make_pool(server.inventory(), tmp_path / "state")
    try:
        files = Files(pool, "web1", server.home / ".runbook/move-1")
        assert files.put(tmp_path / "f", content=text("one")).ok
        server.cut()
        assert files.put(tmp_path / "f", content=text("two")).ok
        assert (tmp_path / "f").read_text() == "two"
        server.stop()
        hasty = make_pool(server.inventory(), tmp_path / "state2", reconnect=HASTY)
        with pytest.raises(Errored):
            Files(hasty, "web1", tmp_path).put(tmp_path / "f", content=text("three"))
        hasty.close()
    finally:
        pool.close()
        server.stop()
