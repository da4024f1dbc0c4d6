"""The hosts of a world: each a folder, an environment, and shims at the front of its ``PATH``.

A host is not a container. Its commands run as the user who rehearses; paths relative to the login
folder stay in the world, absolute ones are those of this machine.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook.sandbox.config import FileConfig

MARKER = "RUNBOOK_SANDBOX"
"""Environment variable that every process of a world carries, with the world's id."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SUDO = """#!/bin/sh
# sudo of a sandbox host: every user is this one, so only the options are taken off.
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -u|-g|-p|-U|-C|-D|-h|--user|--group|--prompt|--chdir) shift 2 ;;
    -v|-K|--validate|--remove-timestamp) exit 0 ;;
    -l|--list) echo "(ALL) NOPASSWD: ALL"; exit 0 ;;
    -*) shift ;;
    [A-Za-z_]*=*) export "$1"; shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || exit 0
exec "$@"
"""

_PKCHECK = """#!/bin/sh
# pkcheck of a sandbox host: every user may start and stop its services.
exit 0
"""

_SSH = """#!/bin/sh
# ssh of a sandbox host: runs the command in the other host's folder and environment.
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -n) exec </dev/null; shift ;;
    -[BbcDEeFIiJLlmOoPpQRSWw]) shift 2 ;;
    -*) shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { echo "usage: ssh destination [command]" >&2; exit 255; }
name=${1#ssh://}; name=${name##*@}; shift
[ "${1-}" = -- ] && shift
if ! [ -f "$RUNBOOK_SANDBOX_DIR/env/$name" ]; then
  echo "ssh: Could not resolve hostname $name: Name or service not known" >&2
  exit 255
fi
. "$RUNBOOK_SANDBOX_DIR/env/$name"
cd "$HOME" || exit 255
[ $# -gt 0 ] || exec /bin/sh
exec /bin/sh -c "$*"
"""

_PYTHON_SHIM = """#!/bin/sh
exec {python} -I -S {script} "$@"
"""


@dataclass(frozen=True, slots=True)
class HostSpace:
    """Where a host lives and what its processes find in their environment."""

    name: str
    home: Path
    env: Mapping[str, str]


def make_host(
    directory: Path,
    name: str,
    *,
    world_id: str,
    also_known_as: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
) -> HostSpace:
    """Make the folder and the shims of a host below ``directory``.

    ``also_known_as``: further names and addresses by which the other hosts' ``ssh`` finds it.
    """
    home = directory / "hosts" / name
    shims = directory / "bin" / name
    home.mkdir(parents=True)
    shims.mkdir(parents=True)
    _write_shims(shims)
    user = getpass.getuser()
    full = {
        "PATH": f"{shims}:{os.environ.get('PATH') or _SYSTEM_PATH}",
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        MARKER: world_id,
        "RUNBOOK_SANDBOX_HOST": name,
        "RUNBOOK_SANDBOX_DIR": str(directory),
        **(env or {}),
    }
    known = directory / "env"
    known.mkdir(exist_ok=True)
    lines = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in full.items())
    for alias in {name, *also_known_as}:
        (known / alias).write_text(lines)
        (known / f"{alias}.home").write_text(str(home))
    return HostSpace(name, home, full)


def _write_shims(folder: Path) -> None:
    sources = Path(__file__).parent / "shims"
    scripts = {"sudo": _SUDO, "ssh": _SSH, "pkcheck": _PKCHECK}
    wanted = ["systemctl"] + ([] if shutil.which("rsync") else ["rsync"])
    for name in wanted:
        scripts[name] = _PYTHON_SHIM.format(
            python=shlex.quote(sys.executable), script=shlex.quote(str(sources / f"{name}.py"))
        )
    for name, text in scripts.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    (folder / "python3").symlink_to(getattr(sys, "_base_executable", "") or sys.executable)


def place_files(space: HostSpace, files: Mapping[str, FileConfig], beside: Path) -> None:
    """Put the declared files into a host's folder. ``beside`` is where sandbox.yml stands."""
    for dest, item in files.items():
        path = space.home / dest
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.text is not None:
            path.write_text(item.text, encoding="utf-8")
        elif item.source is not None:
            source = beside / item.source
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, path, dirs_exist_ok=True, ignore=skip)
            else:
                shutil.copy(source, path)
        if item.mode is not None:
            path.chmod(int(item.mode, 8))
