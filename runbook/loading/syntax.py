"""The YAML parser's complaints in words that help."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from runbook.errors import Diagnostic, Position

_TEMPLATE = 'quote a value that starts with a template: "{{ … }}"'
_QUOTE = "put quotes around the whole value"
_SAY: dict[str, tuple[str, str]] = {
    "mapping values are not allowed in this context": (
        "a `:` is not expected here",
        "quote a text that holds `: `; keys of one mapping stand in one column",
    ),
    "did not find expected key": (
        "this does not go on with the mapping above",
        "keys of one mapping stand in one column; text after a closing quote needs quotes around "
        "the whole",
    ),
    "did not find expected '-' indicator": (
        "this does not go on with the list above",
        "every item of the list starts with `- ` in the same column",
    ),
    "block sequence entries are not allowed in this context": (
        "a list item cannot start here", "put `- ` on a line of its own, below its key",
    ),
    "found unknown escape character": (
        "unknown escape after `\\` inside double quotes",
        "use single quotes, or write `\\\\` for a backslash",
    ),
    "did not find expected node content": ("a value is missing here", _QUOTE),
    "found undefined tag handle": ("YAML tags (`!…`) are not used here", _QUOTE),
    "could not find expected ':'": ("a `:` is missing after this key", "write `key: value`"),
}


def tab_faults(text: str, file: Path) -> list[Diagnostic]:
    """Every line that is indented with a tab."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent and line.strip():
            found.append(
                Diagnostic(
                    "a tab in the indentation",
                    Position(file, number, indent.index("\t") + 1),
                    "indent with spaces",
                )
            )
    return found


def syntax_fault(fault: yaml.YAMLError, text: str, file: Path) -> list[Diagnostic]:
    """One parser error as diagnostics (several where tabs are the cause)."""
    problem = str(getattr(fault, "problem", "") or "")
    mark: Any = getattr(fault, "problem_mark", None)
    if mark is None:
        return [_unreadable(fault, text, file)]
    lines = text.split("\n")
    row = lines[mark.line] if mark.line < len(lines) else ""
    position = Position(file, mark.line + 1, mark.column + 1)
    if "\t" in row[: len(row) - len(row.lstrip())]:
        tabs = tab_faults(text, file)
        if tabs:
            return tabs
    context: Any = getattr(fault, "context_mark", None)
    if problem == "found unexpected end of stream" and context is not None:
        at = Position(file, context.line + 1, context.column + 1)
        return [Diagnostic("a quote is opened here and never closed", at, "close it")]
    if problem in {"did not find expected ',' or ']'", "did not find expected ',' or '}'"}:
        opened = f" opened at line {context.line + 1}" if context is not None else ""
        hint = _TEMPLATE if _bare_template(row) else f"close it, or {_QUOTE}"
        what = problem.removeprefix("did not find expected ")
        return [Diagnostic(f"{what} is missing in the collection{opened}", position, hint)]
    if problem == "found character that cannot start any token":
        char = row[mark.column : mark.column + 1]
        return [Diagnostic(f"a value cannot start with `{char}`", position, _QUOTE)]
    said, hint = _SAY.get(problem, (f"this is not valid YAML: {problem}", ""))
    if _bare_template(row):
        hint = _TEMPLATE
    return [Diagnostic(said, position, hint)]


def _bare_template(row: str) -> bool:
    return re.search(r"""(:|-|,|\[)\s+\{\{""", row) is not None


def _unreadable(fault: yaml.YAMLError, text: str, file: Path) -> Diagnostic:
    """Characters that YAML does not allow; the parser gives an offset only."""
    offset = getattr(fault, "position", None)
    if not isinstance(offset, int) or isinstance(fault, yaml.MarkedYAMLError):
        return Diagnostic(f"this is not valid YAML: {fault}", Position(file, 1, 1))
    raw = text.encode("utf-8")[:offset].decode("utf-8", errors="ignore")
    line = raw.count("\n") + 1
    column = len(raw) - (raw.rfind("\n") + 1) + 1
    char = getattr(fault, "character", None)
    shown = f" U+{char:04X}" if isinstance(char, int) else ""
    return Diagnostic(
        f"a character that YAML does not allow{shown}", Position(file, line, column),
        "remove it, or write it as an escape in double quotes",
    )
