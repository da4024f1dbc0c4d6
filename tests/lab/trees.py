"""Trees of files on lab hosts, with all that real ones have, and what is in them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from tests.lab.lab import Lab

FOLDER = "/srv/shop/uploads"
_ODD = ("plain", "with space", " -rf *", "two\nlines", "end\n", "tab\t", "back\\slash", "\\#012",
        "\udcff\udcfe not UTF-8", "ü", "'quotes\"", "$(reboot)", "deep/er/still/file")
Tree = dict[str, tuple[object, ...]]


def tree(lab: Lab, host: str, folder: str = FOLDER) -> Tree:
    """All that is to be the same: type, mode, owner, time, content or target, links, attributes.
    Times of folders are left out: every program that makes a file changes them."""
    root = lab[host].disk / folder.lstrip("/")
    return read(root) if root.exists() else {}


def read(root: Path) -> Tree:
    found: Tree = {}
    inodes: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        name = str(path.relative_to(root))
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFLNK:
            what = str(path.readlink())
        elif kind == stat.S_IFREG:
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = ""
        own = {key: os.getxattr(path, key, follow_symlinks=False)
               for key in os.listxattr(path, follow_symlinks=False)
               if not key.startswith("trusted.overlay.")}
        first = inodes.setdefault(info.st_ino, name)
        time = 0 if kind == stat.S_IFDIR else info.st_mtime_ns
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, time, what,
                       first if info.st_nlink > 1 and kind == stat.S_IFREG else "", own)
    return found


def make_source(lab: Lab, host: str) -> None:
    """A tree in which everything is odd that can be."""
    root = _fresh(lab, host)
    for number, name in enumerate(_ODD):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name!a} {number}\n" * 30)
        os.chown(path, 1000 + number, 2000 + number)
        path.chmod(0o600 + number)
    os.link(root / "plain", root / "deep/linked")
    (root / "link").symlink_to("two\nlines")
    (root / "dangling").symlink_to("/nowhere")
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(5_000_000)
        file.write(b"end")
    os.mkfifo(root / "pipe", 0o620)
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o4755)
    (root / "shared").mkdir(mode=0o755)
    (root / "shared").chmod(0o2775)
    os.chown(root / "shared", 33, 34)
    for name in ("plain", "shared", "with space"):
        os.setxattr(root / name, "user.origin", b"\x00 camera")
    # An access list as the kernel has it: version 2; user::rw-, user:1234:r--, group::r--,
    # mask::r--, other::---.
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 0, -1))
    os.setxattr(root / "with space", "system.posix_acl_access", b"\x02\x00\x00\x00" + b"".join(
        tag.to_bytes(2, "little") + permission.to_bytes(2, "little")
        + (who & 0xFFFFFFFF).to_bytes(4, "little") for tag, permission, who in entries
    ))
    _age(root, 1_000_000_000)


def make_target(lab: Lab, host: str) -> None:
    """What was on the new side before: some of it the same, some other, some not of the source."""
    root = _fresh(lab, host)
    (root / "plain").write_text("another text")
    (root / "two\nlines").write_text("was there")
    (root / "link").mkdir()
    (root / "link/inside\n").write_text("a folder where the source has a link")
    (root / "shared").write_text("a file where the source has a folder")
    (root / "surplus").mkdir(mode=0o711)
    (root / "surplus/one").write_text("surplus")
    os.link(root / "surplus/one", root / "surplus/two")
    os.setxattr(root / "surplus/one", "user.mine", b"1")
    os.chown(root / "surplus/one", 77, 78)
    _age(root, 900_000_000)


def _fresh(lab: Lab, host: str) -> Path:
    lab[host].run(f"rm -rf {FOLDER} && mkdir -p {FOLDER} && touch {FOLDER}/.made")
    root = lab[host].disk / FOLDER.lstrip("/")
    (root / ".made").unlink()
    return root


def _age(root: Path, time: int) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (time, time), follow_symlinks=False)
    os.utime(root, (time, time))
