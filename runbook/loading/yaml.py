"""YAML text → plain values, with the position of every value and key.

Values are None, bool, int, float, str, list and dict with text keys; nothing else. libyaml's
event stream is read (iteratively, so that no nesting can exhaust the stack); scalars are resolved
by :mod:`runbook.loading.scalars`. Everything that can be wrong is a diagnostic, never an
exception, and all that can be found in one pass is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.cyaml import CBaseLoader

from runbook.errors import Position
from runbook.loading.scalars import Trap, resolve_plain
from runbook.loading.syntax import syntax_fault
from runbook.model.problems import Problems
from runbook.model.runbook import SourceMap, ValuePath

_DEEPEST = 60
_LARGEST = 16 * 1024 * 1024
_MOST_EXPANDED = 100_000
"""Values that aliases may add to a document."""
_TEXT_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", _TEXT_TAG})
_QUOTE_TEMPLATE = 'write "{{ … }}"'


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. ``value`` is None where the document holds nothing usable."""

    value: Any
    source: SourceMap
    text: str

    def find(self, path: ValuePath, word: str) -> Position:
        """Position of a word inside the scalar at ``path``, else that of the scalar."""
        return find_word(self.text, self.source.at(path), word)


def find_word(text: str, start: Position, word: str) -> Position:
    """Where ``word`` stands first from ``start`` on, as a whole word, within a few lines."""
    rows = text.split("\n")
    for number in range(start.line, min(start.line + 200, len(rows) + 1)):
        row = rows[number - 1]
        at = start.column - 1 if number == start.line else 0
        while (at := row.find(word, at)) >= 0:
            before, after = row[at - 1 : at], row[at + len(word) : at + len(word) + 1]
            if not (before.isalnum() or before == "_" or after.isalnum() or after == "_"):
                return Position(start.file, number, at + 1, len(word))
            at += 1
    return start


def read_document(
    path: Path, problems: Problems, *, named_at: Position | None = None, words: bool = False
) -> Document | None:
    """Read and parse a file; None when it cannot be used at all. Never raises.

    ``named_at`` is where another file names this one, for the error when it cannot be read.
    """
    data = read_bytes(path, problems, named_at=named_at)
    return None if data is None else parse(data, path, problems, words=words)


def read_bytes(
    path: Path, problems: Problems, *, named_at: Position | None = None, hint: str = ""
) -> bytes | None:
    """The bytes of a file; None, with a diagnostic, when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST + 1)
    except OSError as fault:
        reason = (fault.strerror or type(fault).__name__).lower()
    except ValueError as fault:  # a path with a NUL in it
        reason = str(fault)
    problems.add(f"cannot read {str(path)!r}: {reason}", named_at, hint)
    return None


def parse(
    data: bytes, file: Path, problems: Problems, *, words: bool = False
) -> Document | None:
    """Parse bytes. ``words``: read ``yes``/``no`` as booleans (Ansible's files)."""
    text = decode(data, file, problems)
    if text is None:
        return None
    composer = _Composer(file, problems)
    loader = CBaseLoader(text)
    try:
        root = composer.compose(loader)
    except yaml.YAMLError as fault:
        for found in syntax_fault(fault, text, file):
            problems.add(found.message, found.position, found.hint)
        return None
    finally:
        loader.dispose()
    if root is None or (root.plain and root.value == ""):
        problems.add("the file is empty", Position(file, 1, 1))
        return None
    builder = _Builder(file, problems, words)
    value = builder.build(root, ())
    return Document(value, SourceMap(file, builder.values, builder.keys), text)


def decode(data: bytes, file: Path, problems: Problems) -> str | None:
    """The text of a file; None, with a diagnostic, when it is not UTF-8 or far too large."""
    if len(data) > _LARGEST:
        problems.add(f"the file is larger than {_LARGEST // 1024**2} MiB", Position(file, 1, 1))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        before = data[: fault.start].decode("utf-8", errors="replace")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        problems.add(
            f"byte 0x{data[fault.start]:02x} is not UTF-8", Position(file, line, column),
            "save the file as UTF-8",
        )
        return None


@dataclass(slots=True)
class _Node:
    """``items`` of a mapping are keys and values by turns."""

    line: int
    column: int
    length: int = 1
    value: str = ""
    plain: bool = False
    shape: str = "scalar"
    flow: bool = False
    items: list[_Node] = field(default_factory=list)
    open: bool = True
    tag: str | None = None


class _Composer:
    """Events → nodes, with aliases resolved to the nodes they name."""

    def __init__(self, file: Path, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._anchors: dict[str, _Node] = {}

    def compose(self, loader: Any) -> _Node | None:
        root: _Node | None = None
        stack: list[_Node] = []
        documents = 0
        while loader.check_event():
            event = loader.get_event()
            kind = type(event)
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents == 2:
                    self._problems.add(
                        "a second document starts here, and one is wanted",
                        self._at(event.start_mark), "remove the `---`",
                    )
            elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                stack.pop().open = False
            elif kind in (
                yaml.ScalarEvent, yaml.AliasEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
            ):
                node = self._node(event, kind)
                if documents > 1:
                    pass  # parsed on for its syntax alone
                elif stack:
                    stack[-1].items.append(node)
                else:
                    root = node
                if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
                    stack.append(node)
                    if len(stack) > _DEEPEST:
                        raise yaml.MarkedYAMLError(
                            problem=f"nested more than {_DEEPEST} levels deep",
                            problem_mark=event.start_mark,
                        )
        return root

    def _at(self, mark: Any, length: int = 1) -> Position:
        return Position(self._file, mark.line + 1, mark.column + 1, length)

    def _node(self, event: Any, kind: type) -> _Node:
        start, end = event.start_mark, event.end_mark
        if kind is yaml.AliasEvent:
            return self._alias(event)
        node = _Node(start.line + 1, start.column + 1, tag=event.tag)
        if kind is yaml.ScalarEvent:
            node.value = event.value
            node.plain = event.style in (None, "") and event.tag is None
            node.open = False
            if end.line == start.line:
                node.length = max(1, end.column - start.column)
        else:
            node.shape = "map" if kind is yaml.MappingStartEvent else "list"
            node.flow = bool(event.flow_style)
        if event.tag not in _PLAIN_TAGS:
            self._problems.add(
                f"the tag `{event.tag}` is not used here", self._at(start),
                "encrypted values are not read; declare it under `secrets:`"
                if event.tag == "!vault" else "remove the tag",
            )
        if event.anchor is not None:
            if event.anchor in self._anchors:
                self._problems.add(
                    f"the anchor `&{event.anchor}` is defined twice", self._at(start)
                )
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> _Node:
        length = event.end_mark.column - event.start_mark.column
        at = self._at(event.start_mark, length)
        found = self._anchors.get(event.anchor)
        if found is not None and not found.open:
            return found
        if found is None:
            hint = f'define it above with &{event.anchor}, or quote a text that starts with "*"'
            self._problems.add(f"there is no anchor `&{event.anchor}`", at, hint)
        else:
            self._problems.add(f"the alias `*{event.anchor}` stands inside its own anchor", at)
        return _Node(at.line, at.column, length, value="null", plain=True, open=False)


class _Builder:
    """Nodes → values, recording positions by path."""

    def __init__(self, file: Path, problems: Problems, words: bool) -> None:
        self._file = file
        self._problems = problems
        self._words = words
        self._seen: set[int] = set()
        self._again = 0
        self.values: dict[ValuePath, Position] = {}
        self.keys: dict[ValuePath, Position] = {}

    def build(self, node: _Node, path: ValuePath) -> Any:
        position = Position(self._file, node.line, node.column, node.length)
        self.values[path] = position
        if id(node) in self._seen:
            self._again += 1
            if self._again > _MOST_EXPANDED:
                self._problems.add(
                    f"aliases expand to more than {_MOST_EXPANDED} values",
                    Position(self._file, 1, 1), "write the values out, or use `vars:`",
                )
                return None
        else:
            self._seen.add(id(node))
        if node.shape == "scalar":
            return self._scalar(node, position)
        if len(path) > _DEEPEST:
            self._problems.add(f"nested more than {_DEEPEST} levels deep", position)
            return None
        if node.shape == "list":
            return [self.build(item, (*path, i)) for i, item in enumerate(node.items)]
        return self._mapping(node, path)

    def _scalar(self, node: _Node, position: Position) -> Any:
        if "\0" in node.value:
            self._problems.add(
                "a NUL byte stands in this text: no command, path or name can hold one", position,
                "remove the `\\0`; a command can make one itself: printf '\\\\0'",
            )
            return node.value.replace("\0", "")
        if not node.plain:
            return node.value
        value = resolve_plain(node.value, words=self._words)
        if isinstance(value, Trap):
            self._problems.add(value.message, position, value.hint, last_word=True)
            return node.value
        return value

    def _mapping(self, node: _Node, path: ValuePath) -> dict[str, Any]:
        if node.flow and node.items and node.items[0].flow and node.items[0].shape == "map":
            self._problems.add(
                "a template has to stand in quotes", self.values[path], _QUOTE_TEMPLATE,
                last_word=True,
            )
            return {}
        made: dict[str, Any] = {}
        merged: list[_Node] = []
        pairs = zip(node.items[::2], node.items[1::2], strict=True)
        for key_node, value_node in pairs:
            if key_node.plain and key_node.value == "<<":
                merged.extend(self._merge(value_node))
                continue
            key = self._key(key_node)
            if key is None:
                continue
            position = Position(self._file, key_node.line, key_node.column, key_node.length)
            below = (*path, key)
            if key in made:
                self._problems.add(
                    f"the key `{key}` stands here a second time", position,
                    f"it was first given at line {self.keys[below].line}",
                )
                continue
            self.keys[below] = position
            made[key] = self.build(value_node, below)
        for base in merged:
            for key_node, value_node in zip(base.items[::2], base.items[1::2], strict=True):
                key = self._key(key_node)
                if key is not None and key not in made:
                    below = (*path, key)
                    self.keys[below] = Position(
                        self._file, key_node.line, key_node.column, key_node.length
                    )
                    made[key] = self.build(value_node, below)
        return made

    def _merge(self, node: _Node) -> list[_Node]:
        bases = node.items if node.shape == "list" else [node]
        for base in bases:
            if base.shape != "map":
                self._problems.add(
                    "`<<` merges mappings only", Position(self._file, node.line, node.column)
                )
                return []
        return bases

    def _key(self, node: _Node) -> str | None:
        position = Position(self._file, node.line, node.column, node.length)
        if node.shape != "scalar" or "\0" in node.value:
            what = "a collection" if node.shape != "scalar" else "one with a NUL byte in it"
            self._problems.add(f"a key is a text, not {what}", position, last_word=True)
            return None
        if not node.plain:
            return node.value
        if len(node.value) == 1 and node.value.isalpha():
            return node.value  # `x: …, y: …`: no reader in use takes a one-letter key for more
        value = resolve_plain(node.value, words=False)
        if isinstance(value, Trap):
            self._problems.add(
                f"as a key, {value.message}", position, value.hint, last_word=True
            )
            return node.value
        if not isinstance(value, str):
            shown = node.value or "nothing"
            hint = f'quote it: "{node.value}"' if node.value else "write the key before the `:`"
            self._problems.add(f"a key is a text, not {shown}", position, hint, last_word=True)
            return node.value or None
        return value
