"""Secrets by reference.

In values a secret is a *mark*, ``⟦secret:NAME⟧``. Marks are what templates render to, what the
plan's digest covers and what the journal holds; only a transport, at the last moment, puts the
value in. :class:`Redactor` replaces values by marks in everything that comes back.
"""

from __future__ import annotations

import base64
import re
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

MARK = re.compile(r"⟦secret:([A-Za-z_][A-Za-z0-9_-]*)⟧")


def mark(name: str) -> str:
    return f"⟦secret:{name}⟧"


def names_in(text: str) -> tuple[str, ...]:
    """The names of the secrets a text refers to, in order."""
    return tuple(MARK.findall(text))


class SecretRef(BaseModel):
    """Where a secret comes from: an environment variable, a file, or a command's output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: Literal["env", "file", "command"]
    argument: str | tuple[str, ...]


class Redactor:
    """Replaces secret values, also base64- and URL-encoded, by their marks. Thread-safe.

    Values shorter than 4 characters are not replaced: they would shred ordinary text.
    """

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._lock = threading.Lock()
        self._needles: list[tuple[str, str]] = []
        for name, value in (values or {}).items():
            self.learn(name, value)

    def learn(self, name: str, value: str) -> None:
        forms: set[str] = set()
        for plain in {value, value.strip(), *value.splitlines()}:
            if len(plain) < 4:
                continue
            forms.add(plain)
            forms.add(base64.b64encode(plain.encode()).decode().rstrip("="))
            forms.add(urllib.parse.quote(plain, safe=""))
        with self._lock:
            self._needles.extend((form, mark(name)) for form in forms)
            self._needles.sort(key=lambda pair: -len(pair[0]))

    @property
    def longest(self) -> int:
        """Length in characters of the longest value known; a stream keeps back this much."""
        return max((len(value) for value, _ in self._needles), default=0)

    def text(self, text: str) -> str:
        for value, replacement in self._needles:
            if value in text:
                text = text.replace(value, replacement)
        return text

    def data(self, data: bytes) -> bytes:
        for value, replacement in self._needles:
            needle = value.encode()
            if needle in data:
                data = data.replace(needle, replacement.encode())
        return data

    def settled(self, data: bytes) -> int:
        """How much of the beginning of ``data`` can be redacted before more of a stream is
        known: no value that starts there may end in what is yet to come."""
        needles = [value.encode() for value, _ in self._needles]
        cut = len(data)
        for size in range(min(len(data), max(map(len, needles), default=1) - 1), 0, -1):
            tail = data[-size:]
            if any(len(needle) > size and needle.startswith(tail) for needle in needles):
                cut -= size
                break
        # A whole value must not be cut in two either.
        moved = cut < len(data)
        while moved:
            moved = False
            for needle in needles:
                start = data.find(needle, max(0, cut - len(needle) + 1), cut + len(needle) - 1)
                if 0 <= start < cut < start + len(needle):
                    cut, moved = start, True
        return cut
