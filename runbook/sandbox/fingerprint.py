"""The state of a world in one comparable value, and the difference between two of them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

ALWAYS_VOLATILE = (".runbook", ".runbook/*", "*.log", "*.pid", "*__pycache__*")
"""The remote runner's own spool, and what a running program leaves behind."""


class Fingerprint(BaseModel):
    """Every part of a world that a rollback has to bring back."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, dict[str, str]] = Field(default_factory=dict)
    """By host and path: ``mode sha256``; a link is ``link target``, a folder ``mode folder``."""
    zones: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By zone: its record sets as sorted text, the SOA left out."""
    services: dict[str, str] = Field(default_factory=dict)
    """By ``host/service``: ``active enabled`` in systemd's words."""

    @property
    def parts(self) -> dict[str, str]:
        """sha256 of each part: ``files HOST``, ``zone NAME``, ``services``."""
        out = {f"files {host}": _digest(files) for host, files in self.files.items()}
        out |= {f"zone {name}": _digest(records) for name, records in self.zones.items()}
        out["services"] = _digest(self.services)
        return out

    @property
    def digest(self) -> str:
        return _digest(self.parts)


def diff(a: Fingerprint, b: Fingerprint) -> list[str]:
    """What changed from ``a`` to ``b``, a line a thing, for people; empty when nothing did."""
    lines: list[str] = []
    for host in sorted({*a.files, *b.files}):
        lines += _changes(f"{host}:", a.files.get(host, {}), b.files.get(host, {}))
    for zone in sorted({*a.zones, *b.zones}):
        before, after = set(a.zones.get(zone, ())), set(b.zones.get(zone, ()))
        lines += [f"zone {zone}: - {record}" for record in sorted(before - after)]
        lines += [f"zone {zone}: + {record}" for record in sorted(after - before)]
    lines += _changes("service ", a.services, b.services)
    return lines


def _changes(head: str, a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted({*a, *b}):
        before, after = a.get(name), b.get(name)
        if before == after:
            continue
        if before is None:
            lines.append(f"{head}{name} appeared ({_short(after)})")
        elif after is None:
            lines.append(f"{head}{name} is gone (was {_short(before)})")
        else:
            lines.append(f"{head}{name} changed: {_short(before)} → {_short(after)}")
    return lines


def _short(text: str | None) -> str:
    return " ".join(word[:12] for word in (text or "").split())


def scan(home: Path, volatile: Iterable[str] = (), live: Iterable[str] = ()) -> dict[str, str]:
    """The files below a host's folder.

    ``volatile`` patterns are left out; of ``live`` ones the content is (customers write to it).
    Patterns are those of :mod:`fnmatch`, against the path relative to the folder.
    """
    skip, data = (*ALWAYS_VOLATILE, *volatile), tuple(live)
    out: dict[str, str] = {}
    for folder, folders, files in os.walk(home):
        base = Path(folder).relative_to(home)
        folders[:] = [name for name in folders if not _matches(str(base / name), skip)]
        for name in (*folders, *files):
            path, text = Path(folder, name), str(base / name)
            if _matches(text, skip):
                continue
            try:
                info = path.lstat()
                mode = f"{stat.S_IMODE(info.st_mode):04o}"
                if stat.S_ISLNK(info.st_mode):
                    out[text] = f"link {path.readlink()}"
                elif stat.S_ISDIR(info.st_mode):
                    out[text] = f"{mode} folder"
                elif not stat.S_ISREG(info.st_mode):
                    out[text] = f"{mode} other"
                elif _matches(text, data):
                    out[text] = f"{mode} live"
                else:
                    out[text] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            except FileNotFoundError:
                continue  # a program removed it while we looked
    return out


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
