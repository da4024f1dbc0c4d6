"""What is wrong with a ``sandbox.yml``, told at its place; and told across processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from runbook.errors import Diagnostic, InvalidInput, Position
from runbook.model.runbook import SourceMap, ValuePath

TAKEN_DOWN = "the sandbox is taken down again, and nothing outside of it was touched"


class Fault(NamedTuple):
    """``path`` leads to the value; ``key``: its key is what is wrong."""

    path: ValuePath
    message: str
    hint: str = ""
    key: bool = False


def invalid(file: Path, faults: Iterable[Fault]) -> InvalidInput:
    """The faults with their positions, in the order of the file."""
    places = positions(file)
    found = [
        Diagnostic(
            f"{dotted(one.path)}: {one.message}",
            places.key_at(one.path) if one.key else places.at(one.path), one.hint,
        )
        for one in faults
    ]
    return InvalidInput(tuple(sorted(found, key=_place)))


def dotted(path: ValuePath) -> str:
    return ".".join(map(str, path)) or "the file"


def positions(file: Path) -> SourceMap:
    """Where every value of a YAML file stands; nothing is known of a file that cannot be read."""
    values: dict[ValuePath, Position] = {}
    keys: dict[ValuePath, Position] = {}

    def walk(node: yaml.Node, path: ValuePath, inside: tuple[yaml.Node, ...]) -> None:
        values[path] = _position(file, node)
        if node in inside:
            return  # an alias of what it stands in
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = (*path, str(key.value))
                keys[below] = _position(file, key)
                walk(value, below, (*inside, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                walk(item, (*path, index), (*inside, node))

    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        root = None
    if root is not None:
        walk(root, (), ())
    return SourceMap(file, values, keys)


def to_line(fault: InvalidInput) -> str:
    """One line of text that :func:`from_line` reads."""
    return json.dumps([_as_json(one) for one in fault.diagnostics])


def from_line(line: str, file: Path) -> InvalidInput:
    """What a world that did not come up has found in its sandbox.yml."""
    return InvalidInput(tuple(
        Diagnostic(one["message"], Position(file, *one["at"]), one["hint"])
        for one in json.loads(line)
    ), state=TAKEN_DOWN)


def _as_json(one: Diagnostic) -> dict[str, Any]:
    line, column = _place(one)
    length = one.position.length if one.position else 1
    return {"message": one.message, "hint": one.hint, "at": [line, column, length]}


def _position(file: Path, node: yaml.Node) -> Position:
    start, end = node.start_mark, node.end_mark
    scalar = isinstance(node, yaml.ScalarNode) and end.line == start.line
    length = max(1, end.column - start.column) if scalar else 1
    return Position(file, start.line + 1, start.column + 1, length)


def _place(one: Diagnostic) -> tuple[int, int]:
    return (one.position.line, one.position.column) if one.position else (1, 1)
