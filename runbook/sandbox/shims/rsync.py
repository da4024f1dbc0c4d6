"""``rsync`` of a sandbox host on a machine that has none: an honest part of it.

``rsync -a [options] SRC… DEST`` between this host and another, or within this host, with
``--delete``, ``--checksum``, ``--exclude``, ``--files-from``, ``--backup-dir``, ``--dry-run`` and
the output formats of ``files.sync`` and ``files.compare``. Every other option is refused: a
rehearsal must not pretend. Owners stay as they are; hard links are refused, as every file is
copied by itself, and control characters in names, which rsync would escape.
"""

from __future__ import annotations

import argparse
import filecmp
import fnmatch
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

_CHANGES = "%i %l %b %n"
_STANDING = "%i %B %U %G %l %M %n"
_FORMATS = ("", "%i %l %n", _CHANGES, _STANDING)
# Files come whole and at once, so there are no partial ones, and holes are not content.
_IGNORED = ("-v", "-z", "-q", "-8", "-s", "-W", "-D", "-g", "-o", "-p", "-r", "-t", "-l", "-a",
            "-A", "-X", "-S", "-O")
_IGNORED_LONG = (
    "--archive", "--recursive", "--times", "--perms", "--links", "--verbose", "--compress",
    "--protect-args", "--secluded-args", "--partial", "--quiet", "--numeric-ids", "--from0",
    "--8-bit-output", "--no-h", "--backup", "--omit-dir-times",
)


class Refused(Exception):
    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise Refused(f"the sandbox's own rsync: {message}; install rsync")


def parse(args: list[str]) -> argparse.Namespace:
    """Raises Refused for anything that is not known here."""
    parser = _Parser(prog="rsync", add_help=False, allow_abbrev=False)
    for flag in (*_IGNORED, *_IGNORED_LONG):
        parser.add_argument(flag, action="store_true", dest="ignored")
    for flag in ("-e", "--rsh", "--timeout", "--contimeout", "--rsync-path", "--partial-dir",
                 "--temp-dir", "--link-dest", "--info"):
        parser.add_argument(flag, dest="ignored_value")
    parser.add_argument("--delete", "--delete-after", "--delete-delay", action="store_true",
                        dest="delete")
    parser.add_argument("-n", "--dry-run", action="store_true", dest="dry_run")
    parser.add_argument("-c", "--checksum", action="store_true", dest="checksum")
    parser.add_argument("-I", "--ignore-times", action="store_true", dest="ignore_times")
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("-H", "--hard-links", action="store_true", dest="hard_links")
    parser.add_argument("--backup-dir")
    parser.add_argument("--modify-window", choices=["0", "-1"], default="0")
    parser.add_argument("--files-from")
    parser.add_argument("--out-format", default="")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args(args)
    if len(options.paths) < 2:
        raise Refused("source and destination are wanted")
    if options.out_format not in _FORMATS:
        raise Refused(f"the sandbox's own rsync knows the formats {_FORMATS} only; install rsync")
    if any("**" in pattern for pattern in options.exclude):
        raise Refused("the sandbox's own rsync does not know `**`; install rsync")
    return options


def place(text: str) -> Path:
    """A local path for ``[user@]host:path`` or a path of this host."""
    head, colon, tail = text.partition(":")
    if not colon or "/" in head:
        return Path(text)
    name = head.rpartition("@")[2]
    home = Path(os.environ["RUNBOOK_SANDBOX_DIR"], "env", f"{name}.home")
    if not home.is_file():
        raise Refused(f"ssh: Could not resolve hostname {name}", 255)
    return Path(home.read_text().strip(), tail)


class Transfer:
    """From one folder into another; ``name`` below is a path relative to both."""

    def __init__(self, options: argparse.Namespace, source: Path, dest: Path, arrow: str) -> None:
        self.options = options
        self.source = source
        self.dest = dest
        self.arrow = arrow

    def run(self, names: Iterator[str]) -> None:
        folders = []
        for name in names:
            source, dest = self.source / name, self.dest / name
            change = self.change(source, dest)
            if change:
                self.say(change, name, source)
                if not self.options.dry_run:
                    self.apply(source, dest)
            if source.is_dir() and not source.is_symlink():
                folders.append(name)
        for name in reversed(folders):
            if self.options.delete:
                self.remove_surplus(name)
            if not self.options.dry_run:
                shutil.copystat(self.source / name, self.dest / name)

    def say(self, change: str, name: str, path: Path) -> None:
        info = path.lstat()
        is_folder = stat.S_ISDIR(info.st_mode)
        length = 0 if change.startswith("*") else info.st_size
        time = datetime.fromtimestamp(info.st_mtime)
        values = {
            "%i": change, "%l": length, "%b": length if change[1] == "f" else 0,
            "%n": f"{name}/" if is_folder else name, "%B": stat.filemode(info.st_mode)[1:],
            "%U": info.st_uid, "%G": info.st_gid, "%M": f"{time:%Y/%m/%d-%H:%M:%S}",
        }
        if self.options.out_format:
            line = re.sub("%.", lambda key: str(values[key[0]]), self.options.out_format)
            sys.stdout.buffer.write(os.fsencode(f"{line}\n"))

    def change(self, source: Path, dest: Path) -> str:
        """The eleven characters of ``%i`` (rsync(1), ``--itemize-changes``); empty: none."""
        ours = source.lstat()
        if min(map(ord, source.name), default=64) < 32:
            raise Refused(f"the sandbox's own rsync knows no such name: {str(source)!r}", 23)
        if self.options.hard_links and stat.S_ISREG(ours.st_mode) and ours.st_nlink > 1:
            raise Refused(f"the sandbox's own rsync knows no hard links: {source}; install "
                          "rsync, or leave `hard_links` out of `preserve`", 23)
        kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "L", stat.S_IFREG: "f"}.get(
            stat.S_IFMT(ours.st_mode)
        )
        if kind is None:
            raise Refused(f"the sandbox's own rsync copies no special file: {source}", 23)
        head = {"d": "c", "L": "c", "f": self.arrow}[kind]
        if not os.path.lexists(dest):
            return f"{head}{kind}+++++++++"
        theirs = dest.lstat()
        if stat.S_IFMT(theirs.st_mode) != stat.S_IFMT(ours.st_mode):
            return f"{head}{kind}+++++++++"
        if kind == "L":
            return "" if source.readlink() == dest.readlink() else "cLc.t......"
        # By the second, or with --modify-window=-1 exactly.
        unit = 1 if self.options.modify_window == "-1" else 10**9
        time = "t" if ours.st_mtime_ns // unit != theirs.st_mtime_ns // unit else "."
        mode = "p" if stat.S_IMODE(ours.st_mode) != stat.S_IMODE(theirs.st_mode) else "."
        if kind == "f":
            size = "s" if ours.st_size != theirs.st_size else "."
            if self.options.checksum:
                other = size == "s" or not filecmp.cmp(source, dest, shallow=False)
                if other:
                    return f"{self.arrow}fc{size}{time}{mode}....."
            elif size == "s" or time == "t" or self.options.ignore_times:
                return f"{self.arrow}f.{size}{time}{mode}....."
        return f".{kind}..{time}{mode}....." if time + mode != ".." else ""

    def apply(self, source: Path, dest: Path) -> None:
        if source.is_symlink():
            self.clear(dest)
            dest.symlink_to(source.readlink())
        elif source.is_dir():
            if dest.is_symlink() or (dest.exists() and not dest.is_dir()):
                self.clear(dest)
            dest.mkdir(parents=True, exist_ok=True)
        else:
            if dest.is_dir() and not dest.is_symlink():
                self.clear(dest)
            dest.parent.mkdir(parents=True, exist_ok=True)
            new = dest.with_name(f".{dest.name}.{os.getpid()}")
            shutil.copy2(source, new)
            if os.path.lexists(dest):
                self.clear(dest)
            new.replace(dest)

    def clear(self, path: Path) -> None:
        """Remove it, or with ``--backup-dir`` move it aside."""
        if self.options.backup_dir and os.path.lexists(path):
            aside = Path(self.options.backup_dir, path.relative_to(self.dest))
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, aside)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def remove_surplus(self, folder: str) -> None:
        where = self.dest / folder
        for item in sorted(where.iterdir()) if where.is_dir() else ():
            name = str(Path(folder, item.name))
            if excluded(name, item, self.options.exclude):
                continue
            if not os.path.lexists(self.source / name):
                self.say("*deleting  ", name, item)
                if not self.options.dry_run:
                    self.clear(item)


def excluded(name: str, path: Path, patterns: list[str]) -> bool:
    """Filter rules as in rsync(1): a slash at the end means folders, one at the front the root."""
    for pattern in patterns:
        if pattern.endswith("/") and not path.is_dir():
            continue
        bare = pattern.strip("/")
        parts, wanted = Path(name).parts, Path(bare).parts
        if pattern.startswith("/"):
            tail = parts if len(parts) == len(wanted) else ()
        else:
            tail = parts[-len(wanted) :]
        if len(tail) == len(wanted) and all(map(fnmatch.fnmatchcase, tail, wanted)):
            return True
    return False


def below(root: Path, name: str, patterns: list[str]) -> Iterator[str]:
    """``name`` and all below it, folders before what is in them."""
    path = root / name
    if name != "." and excluded(name, path, patterns):
        return
    yield name
    if path.is_dir() and not path.is_symlink():
        for item in sorted(path.iterdir()):
            yield from below(root, str(Path(name, item.name)), patterns)


def transfers(options: argparse.Namespace) -> Iterator[tuple[Transfer, Iterator[str]]]:
    *sources, last = options.paths
    dest = place(last)
    arrow = "<" if place(last) != Path(last) else ">"
    for text in sources:
        source = place(text)
        if not os.path.lexists(source):
            raise Refused(f'link_stat "{source}" failed: No such file or directory (2)', 23)
        if options.files_from:
            listed = Path(options.files_from).read_bytes().split(b"\0")
            names = [os.fsdecode(item) for item in listed if item]
            yield Transfer(options, source, dest, arrow), iter(names)
        elif source.is_dir() and text.endswith(("/", "/.")):
            yield Transfer(options, source, dest, arrow), below(source, ".", options.exclude)
        elif source.is_dir() or dest.is_dir() or last.endswith("/"):
            root = source.parent
            yield Transfer(options, root, dest, arrow), below(root, source.name, options.exclude)
        else:
            shutil.copy2(source, dest)


def main() -> int:
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write("rsync  version 3.2.0 (the sandbox's own part of it)\n")
        return 0
    try:
        for transfer, names in transfers(parse(sys.argv[1:])):
            if not transfer.options.dry_run:
                transfer.dest.mkdir(exist_ok=True)
            transfer.run(names)
    except Refused as fault:
        sys.stderr.write(f"rsync: {fault}\n")
        return fault.code
    except FileNotFoundError as fault:
        sys.stderr.write(f"rsync: {fault}\n")
        return 11
    return 0


if __name__ == "__main__":
    sys.exit(main())
