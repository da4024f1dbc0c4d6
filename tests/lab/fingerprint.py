"""What the lab's world is like, so that two moments can be compared: files, services, records."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.names import PRIMARY, SECONDARY
from tests.lab.processes import listening
from tests.lab.shop import records_of

# Logs grow; name servers keep their zones in files of their own, and the zones are compared as
# they are served; orders come in all the time, and are compared with those acknowledged.
_ALIVE = (
    "var/log", "var/cache/bind", "var/lib/bind", "var/lib/knot-lab", "root/data/orders.db",
    "root/data/orders.db-journal",
)


def fingerprint(lab: Lab) -> dict[str, str]:
    """``HOST:/path``, ``service HOST``, ``ports HOST`` and ``zone SERVER`` → what it is."""
    found: dict[str, str] = {}
    for name, machine in lab.machines.items():
        for path in sorted(machine.disk.rglob("*")):
            inside = str(path.relative_to(machine.disk))
            if not inside.startswith(_ALIVE):
                found[f"{name}:/{inside}"] = _file(path)
        if name.endswith("-web"):
            found[f"service {name}"] = " ".join(machine.run(
                "systemctl is-active shop; systemctl is-enabled shop; ls -A /tmp /run",
                check=False,
            ).stdout.split())
        found[f"ports {name}"] = str(sorted(listening(machine.init)))
    for server in (PRIMARY, SECONDARY):
        for line in records_of(lab, server):
            found[f"zone {server}: {line}"] = "served"
    return found


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Lines for people; none when nothing differs."""
    return [
        f"{key}: {before.get(key, 'not there')} → {after.get(key, 'not there')}"
        for key in sorted({*before, *after}) if before.get(key) != after.get(key)
    ]


def _file(path: Path) -> str:
    about = path.lstat()
    kind = stat.S_IFMT(about.st_mode)
    text = ""
    if kind == stat.S_IFREG:
        text = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    elif kind == stat.S_IFLNK:
        text = str(path.readlink())
    return f"{stat.filemode(about.st_mode)} {about.st_uid}:{about.st_gid} {text}".strip()


