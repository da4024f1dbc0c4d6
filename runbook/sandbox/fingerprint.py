"""The state of a world in one comparable value, and the difference between two of them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in two states of a world."""

    thing: str
    """What it is, whatever its state: ``host:path``, ``zone NAME: owner TYPE``, ``service
    host/name``."""
    text: str
    """What changed, for people."""


def diff(a: Fingerprint, b: Fingerprint) -> list[str]:
    """What changed from ``a`` to ``b``, a line a thing, for people; empty when nothing did."""
    return [difference.text for difference in differences(a, b)]


def differences(a: Fingerprint, b: Fingerprint) -> list[Difference]:
    """What changed from ``a`` to ``b``."""
    found: list[Difference] = []
    for host in sorted({*a.files, *b.files}):
        found += _changes(f"{host}:", a.files.get(host, {}), b.files.get(host, {}))
    for zone in sorted({*a.zones, *b.zones}):
        before, after = set(a.zones.get(zone, ())), set(b.zones.get(zone, ()))
        for sign, records in (("-", before - after), ("+", after - before)):
            found += [Difference(f"zone {zone}: {_record_set(record)}",
                                 f"zone {zone}: {sign} {record}") for record in sorted(records)]
    found += _changes("service ", a.services, b.services)
    return found


def _record_set(record: str) -> str:
    """Owner and type of a record's text: ``owner ttl class type data``."""
    owner, _, _, rtype, *_ = record.split(" ", 4)
    return f"{owner} {rtype}"


def _changes(head: str, a: Mapping[str, str], b: Mapping[str, str]) -> list[Difference]:
    found = []
    for name in sorted({*a, *b}):
        before, after = a.get(name), b.get(name)
        if before == after:
            continue
        thing = f"{head}{name}"
        if before is None:
            text = f"{thing} appeared ({_short(after)})"
        elif after is None:
            text = f"{thing} is gone (was {_short(before)})"
        else:
            text = f"{thing} changed: {_short(before)} → {_short(after)}"
        found.append(Difference(thing, text))
    return found


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
