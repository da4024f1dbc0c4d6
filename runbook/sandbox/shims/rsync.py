"""``rsync`` of a sandbox host on a machine that has none: an honest part of it.

``rsync [-a|-r] [-v -z -c -t -p -l …] [--delete] [--checksum] SRC… DEST`` between this host and
another, or within this host. Every other option is refused: a rehearsal must not pretend.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import sys
from pathlib import Path

_QUIET = {
    "--archive", "--recursive", "--checksum", "--times", "--perms", "--links", "--verbose",
    "--compress", "--protect-args", "--secluded-args", "--partial", "--quiet", "--numeric-ids",
}
_VALUED = {"-e", "--rsh", "--timeout", "--contimeout", "--rsync-path"}
_LETTERS = set("arvzctplqsWDgoP")


class Unsupported(Exception):
    pass


def parse(args: list[str]) -> tuple[bool, list[str]]:
    """(delete, paths). Raises Unsupported."""
    delete, paths, queue = False, [], list(args)
    while queue:
        item = queue.pop(0)
        if item == "--":
            paths += queue
            break
        if item in ("--delete", "--delete-after", "--delete-delay"):
            delete = True
        elif item in _VALUED:
            queue.pop(0)
        elif item in _QUIET or item.partition("=")[0] in _VALUED:
            continue
        elif item.startswith("-") and not item.startswith("--") and len(item) > 1:
            letters = item[1:]
            if letters.endswith("e") and set(letters[:-1]) <= _LETTERS:
                queue.pop(0)
            elif not set(letters) <= _LETTERS:
                raise Unsupported(item)
        elif item.startswith("-"):
            raise Unsupported(item)
        else:
            paths.append(item)
    if len(paths) < 2:
        raise Unsupported("fewer than two paths")
    return delete, paths


def place(text: str) -> Path:
    """A local path for ``[user@]host:path`` or a path of this host."""
    head, colon, tail = text.partition(":")
    if not colon or "/" in head:
        return Path(text)
    name = head.rpartition("@")[2]
    home = Path(os.environ["RUNBOOK_SANDBOX_DIR"], "env", f"{name}.home")
    if not home.is_file():
        raise FileNotFoundError(f"ssh: Could not resolve hostname {name}")
    return Path(home.read_text().strip(), tail)


def copy_file(source: Path, dest: Path) -> None:
    if source.is_symlink():
        if dest.is_symlink() and dest.readlink() == source.readlink():
            return
        dest.unlink(missing_ok=True)
        dest.symlink_to(source.readlink())
        return
    if dest.is_file() and not dest.is_symlink() and filecmp.cmp(source, dest, shallow=False):
        shutil.copystat(source, dest)
        return
    new = dest.with_name(f".{dest.name}.{os.getpid()}")
    shutil.copy2(source, new)
    new.replace(dest)


def copy_tree(source: Path, dest: Path, delete: bool) -> None:
    dest.mkdir(parents=True, exist_ok=True)
    names = set()
    for item in sorted(source.iterdir()):
        names.add(item.name)
        if item.is_dir() and not item.is_symlink():
            copy_tree(item, dest / item.name, delete)
        else:
            copy_file(item, dest / item.name)
    if delete:
        for item in dest.iterdir():
            if item.name in names:
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()
    shutil.copystat(source, dest)


def main() -> int:
    try:
        delete, paths = parse(sys.argv[1:])
    except Unsupported as fault:
        sys.stderr.write(f"rsync: the sandbox's own rsync does not know {fault}; install rsync\n")
        return 1
    try:
        target = place(paths[-1])
        for text in paths[:-1]:
            source = place(text)
            if source.is_dir():
                inside = text.endswith(("/", "/."))
                copy_tree(source, target if inside else target / source.name, delete)
            elif source.exists():
                into = target.is_dir() or paths[-1].endswith("/")
                if into:
                    target.mkdir(exist_ok=True)
                copy_file(source, target / source.name if into else target)
            else:
                sys.stderr.write(f'rsync: link_stat "{source}" failed: No such file (2)\n')
                return 23
    except FileNotFoundError as fault:
        sys.stderr.write(f"rsync: {fault}\n")
        return 255 if "resolve" in str(fault) else 23
    return 0


if __name__ == "__main__":
    sys.exit(main())
