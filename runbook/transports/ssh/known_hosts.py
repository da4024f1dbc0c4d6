"""known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), read by us.

paramiko raises on ``@cert-authority`` and ``@revoked`` lines and knows one key of a type a host;
fabric never reads the files. Here every line counts: patterns and negations, hashed names,
ports, several keys, revoked keys. Certificate authorities are not supported: such a line trusts
nothing here, and a refusal says so.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runbook.errors import HostKeyRefused

SYSTEM_FILES = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
USER_FILES = (Path("~/.ssh/known_hosts"), Path("~/.ssh/known_hosts2"))

_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that could be read."""

    where: str
    marker: Literal["", "@revoked", "@cert-authority"]
    patterns: tuple[str, ...]
    key_type: str
    key: bytes

    def matches(self, name: str) -> bool:
        """Whether the line is about ``name``: a host, or ``[host]:port``."""
        found = False
        for pattern in self.patterns:
            if pattern.startswith("|1|"):
                found = found or _hashed(pattern, name)
            elif pattern.startswith("!"):
                if fnmatch.fnmatchcase(name, _literal_brackets(pattern[1:].lower())):
                    return False
            elif fnmatch.fnmatchcase(name, _literal_brackets(pattern.lower())):
                found = True
        return found


class KnownHosts:
    """All known keys of some files. Files that do not exist are skipped unless ``required``."""

    def __init__(self, files: Iterable[Path], *, required: Iterable[Path] = ()) -> None:
        self.entries: list[Entry] = []
        # Positions of the entries about a name, and of those that have to be tried on each name:
        # thousands of lines times hundreds of hosts are too many to try.
        self._named: dict[str, list[int]] = {}
        self._wide: list[int] = []
        self.faults: list[str] = []
        self.files = [*files]
        for path in self.files:
            self._load(path.expanduser(), must=False)
        for path in required:
            self.files.append(path)
            self._load(path.expanduser(), must=True)

    def _load(self, path: Path, *, must: bool) -> None:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as fault:
            if must:
                raise HostKeyRefused(
                    f"the known_hosts file {path} cannot be read ({fault.strerror})",
                    hint="without it no host can be told from an impostor; nothing was sent",
                ) from fault
            return
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            entry = _parse(text, f"{path}:{number}")
            if entry is None:
                self.faults.append(f"{path}:{number}: not a known_hosts line")
            else:
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        position = len(self.entries)
        self.entries.append(entry)
        if any(item.startswith("|1|") or set(item) & set("!*?") for item in entry.patterns):
            self._wide.append(position)
            return
        for pattern in entry.patterns:
            self._named.setdefault(pattern.lower(), []).append(position)

    def _about(self, *names: str) -> list[Entry]:
        """The entries that match one of the names, in the order of the files."""
        found = {position for name in names for position in self._named.get(name, ())}
        found.update(
            position for position in self._wide
            if any(self.entries[position].matches(name) for name in names)
        )
        return [self.entries[position] for position in sorted(found)]

    def algorithms(self, host: str, port: int) -> tuple[str, ...]:
        """Host key algorithms to ask for first: those of the keys we know."""
        types: dict[str, None] = {}
        for name in _names(host, port):
            for entry in self._about(name):
                if entry.marker == "":
                    for algorithm in _ALGORITHMS.get(entry.key_type, (entry.key_type,)):
                        types[algorithm] = None
        return tuple(types)

    def keys(self, host: str, port: int) -> list[Entry]:
        """What is known of a host, revoked keys and certificate authorities left out."""
        return [one for one in self._about(*_names(host, port)) if one.marker == ""]

    def check(self, host: str, port: int, key_type: str, key: bytes, label: str) -> None:
        """Returns when the key is known for the host. ``key`` is the public key's wire form.

        ``label`` names the host to people. Raises HostKeyRefused: revoked, changed or unknown.
        As OpenSSH does, a key known for the host at its default port is accepted at others.
        """
        names = _names(host, port)
        about = self._about(*names)
        shown = f"{key_type} {fingerprint(key)}"
        for entry in about:
            if entry.marker == "@revoked" and entry.key == key:
                raise HostKeyRefused(
                    f"{label} ({names[0]}) shows a revoked host key, {shown}",
                    hint=f"revoked in {entry.where}; do not go on before you know why",
                )
        known = [e for e in about if e.marker == ""]
        if any(e.key == key for e in known):
            return
        authorities = [e.where for e in about if e.marker == "@cert-authority"]
        why = "".join(
            f"; {where} names a certificate authority, which is not supported: add the host's "
            "own key" for where in authorities
        )
        exact = [e for e in known if e.matches(names[0])]
        if exact:
            places = ", ".join(
                f"{e.where} ({e.key_type} {fingerprint(e.key)})" for e in exact
            )
            raise HostKeyRefused(
                f"{label} ({names[0]}) shows a host key that is not the known one: {shown}",
                hint=f"known: {places}. The machine was reinstalled, or somebody stands in "
                f"between; nothing was sent{why}",
            )
        bad = f"; skipped: {', '.join(self.faults)}" if self.faults else ""
        raise HostKeyRefused(
            f"{label} ({names[0]}) is not in any known_hosts file; it shows {shown}",
            hint="compare the fingerprint with the machine's own (ssh-keygen -lf), then add the "
            f"line `ssh-keyscan` prints to your known_hosts; nothing was sent{why}{bad}",
        )


def fingerprint(key: bytes) -> str:
    """``SHA256:…`` as ssh-keygen(1) shows it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def _names(host: str, port: int) -> tuple[str, ...]:
    host = host.lower()
    return (host,) if port == 22 else (f"[{host}]:{port}", host)


def _parse(text: str, where: str) -> Entry | None:
    words = text.split()
    marker: Literal["", "@revoked", "@cert-authority"] = ""
    if words[0] == "@revoked":
        marker, words = "@revoked", words[1:]
    elif words[0] == "@cert-authority":
        marker, words = "@cert-authority", words[1:]
    if len(words) < 3 or words[0].startswith("@"):
        return None
    try:
        key = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    return Entry(where, marker, tuple(words[0].split(",")), words[1], key)


def _hashed(pattern: str, name: str) -> bool:
    _, _, salt, wanted = [*pattern.split("|"), "", ""][:4]
    try:
        found = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(found, base64.b64decode(wanted))
    except binascii.Error:
        return False


def _literal_brackets(pattern: str) -> str:
    """OpenSSH's patterns know ``*`` and ``?`` only; ``[`` stands for itself."""
    return pattern.replace("[", "[[]")
