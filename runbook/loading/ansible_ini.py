"""A strict part of Ansible's inventories, INI flavour.

``[group]`` holds hosts with ``key=value`` words, ``[group:children]`` names of groups,
``[group:vars]`` one ``key=value`` a line. Values are texts, numbers or true/false; other Python
literals, which Ansible would evaluate, are refused.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from runbook.errors import Position
from runbook.loading.ansible import Builder
from runbook.model.inventory import Inventory
from runbook.model.problems import Problems
from runbook.templating.values import did_you_mean

_SECTION = re.compile(r"\[([^\]:]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORD = re.compile(r"\S+")


def read_ansible_ini(text: str, file: Path, problems: Problems) -> Inventory:
    """Faults go to ``problems``."""
    reader = _Reader(file, problems)
    for number, line in enumerate(text.split("\n"), 1):
        reader.line(number, line.rstrip("\r"))
    return reader.builder.build()


class _Reader:
    def __init__(self, file: Path, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._group = "ungrouped"
        self._part = ""
        self.builder = Builder(problems)

    def line(self, number: int, line: str) -> None:
        text = line.strip()
        if not text or text[0] in "#;":
            return
        column = len(line) - len(line.lstrip()) + 1
        at = Position(self._file, number, column, len(text))
        if text.startswith("["):
            self._section(text, at)
        elif self._part == "vars":
            self._variable(text, at)
        elif self._part == "children":
            self._child(text, at)
        else:
            self._host(text, at)

    def _section(self, text: str, at: Position) -> None:
        found = _SECTION.fullmatch(text)
        if found is None:
            # A line such as "[a:b]web" is a host range rather than a section.
            self._problems.add("this is not a section", at, "like [web], [web:vars]")
            return
        group, part = found[1].strip(), found[2] or ""
        if part not in {"", "vars", "children"}:
            self._problems.add(
                f"unknown part `{part}` of a section", at, did_you_mean(part, ("vars", "children"))
            )
            part = "vars"
        if not _NAME.fullmatch(group):
            self._problems.add(f"`{group}` cannot be the name of a group", at)
            return
        self._group, self._part = group, part
        self.builder.group(group)

    def _variable(self, text: str, at: Position) -> None:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            self._problems.add("a variable is wanted here, as name=value", at)
            return
        self._set("group", self._group, name.strip(), value.strip(), at)

    def _child(self, text: str, at: Position) -> None:
        words = text.partition("#")[0].split()
        if len(words) != 1:
            self._problems.add("the name of one group is wanted here", at)
            return
        self.builder.group(self._group).children[words[0]] = Position(
            self._file, at.line, at.column, len(words[0])
        )

    def _host(self, text: str, at: Position) -> None:
        try:
            words = shlex.split(text, comments=True)
        except ValueError as fault:
            self._problems.add(f"this line cannot be split into words: {fault}", at)
            return
        first = _WORD.match(text)
        pattern = words[0]
        if "=" in pattern:
            self._problems.add("a host name is wanted here before any variable", at)
            return
        place = Position(self._file, at.line, at.column, len(first[0]) if first else 1)
        names = self.builder.add_hosts(self._group, pattern, place)
        for word in words[1:]:
            name, equals, value = word.partition("=")
            stands = re.search(rf"(?<!\S){re.escape(name + equals)}\S*", text)
            start, length = (stands.start(), len(stands[0])) if stands else (0, 1)
            position = Position(self._file, at.line, at.column + start, length)
            if not equals:
                self._problems.add(f"`{word}` is not a variable, as name=value", position)
                continue
            for host in names:
                self._set("host", host, name, value, position)

    def _set(self, kind: str, owner: str, name: str, text: str, at: Position) -> None:
        if text[:1] in {"[", "{", "("}:
            self._problems.add(
                f"`{name}` is a Python literal, and only texts, numbers and true/false are read",
                at, "write the inventory as YAML, or separate several names with commas",
            )
            return
        self.builder.set_var(kind, owner, name, _value(text), at)


def _value(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in {"true", "yes"}:
        return True
    if text.lower() in {"false", "no"}:
        return False
    return int(text) if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) else text
