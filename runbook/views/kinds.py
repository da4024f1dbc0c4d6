"""The kinds of step, told by their own classes: a table of all, and one explained."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.views.consoles import plain_console

_SCOPES = {
    "host": "on each of its `hosts:`",
    "controller": "on the controller alone",
    "either": "on each of its `hosts:`, or on the controller without them",
}
_WIDTH = 100
_CODE = re.compile(r"`+([^`]+)`+")


def rows(kinds: Mapping[str, type[Kind]]) -> list[dict[str, Any]]:
    """JSON values: ``kind``, ``summary`` and ``check`` of every kind, in the registry's order."""
    return [
        {"kind": name, "summary": summary(kind), "check": kind.check}
        for name, kind in kinds.items()
    ]


def summary(kind: type[Kind]) -> str:
    """The first line of its docstring."""
    return _documentation(kind).partition("\n")[0]


def describe(kind: type[Kind]) -> dict[str, Any]:
    """JSON values: all there is to know of one kind.

    ``kind summary text scope check idempotent undo needs poll estimate outputs example`` and
    ``keys``, each with ``key type required default description``.
    """
    _, _, text = _documentation(kind).partition("\n")
    return {
        "kind": kind.name,
        "summary": summary(kind),
        "text": text.strip(),
        "scope": kind.scope,
        "check": kind.check,
        "idempotent": kind.idempotent,
        "undo": undo_text(kind),
        "needs": needs_text(kind),
        "poll": kind.poll.model_dump() if kind.poll is not None else None,
        "estimate": kind.estimate,
        "keys": keys_of(kind),
        "outputs": dict(kind.output_names),
        "example": kind.example,
    }


def undo_text(kind: type[Kind]) -> str:
    """How it is undone: what the docstring of its ``undo`` says."""
    said = kind.undo.__doc__
    if kind.check:
        return "There is nothing to undo: it only looks."
    if said is None or said == Kind.undo.__doc__:
        return "Derived from the state that was observed before it acted."
    return " ".join(inspect.cleandoc(said).split())


def needs_text(kind: type[Kind]) -> str:
    """What a probe looks for besides: the docstring of its ``needs``; empty where it has none."""
    said = kind.needs.__doc__
    return "" if said is None or said == Kind.needs.__doc__ else " ".join(
        inspect.cleandoc(said).split()
    )


def show_kinds(kinds: Mapping[str, type[Kind]], console: Console | None = None) -> None:
    page = Page(console or plain_console())
    page.columns(((row["kind"], row["summary"]) for row in rows(kinds)), indent=0)
    page.say("\nrunbook explain KIND tells all about one.", style="dim")


def show_kind(kind: type[Kind], console: Console | None = None) -> None:
    page = Page(console or plain_console())
    told = describe(kind)
    page.say(f"`{told['kind']}`  {told['summary']}", style="bold")
    for paragraph in _paragraphs(told["text"]):
        page.say("")
        page.say(paragraph)
    page.heading("Keys under with:")
    page.keys(told["keys"])
    if told["outputs"]:
        page.heading("Outputs")
        page.columns(told["outputs"].items())
    page.heading("How it runs")
    page.columns(_facts(told))
    page.heading("Example")
    for line in told["example"].rstrip("\n").splitlines():
        page.console.print(Text(f"  {line}"))


class Page:
    """Prose and columns. Where colour cannot set off code, its backticks stay."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._width = min(console.width, _WIDTH)
        self._colour = console.color_system is not None and not console.no_color

    def say(self, text: str, style: str = "") -> None:
        self.console.print(self._prose(text, style), width=self._width, soft_wrap=False)

    def heading(self, text: str) -> None:
        self.console.print(Text(f"\n{text}", style="bold"))

    def columns(self, pairs: Iterable[tuple[str, str]], *, indent: int = 2) -> None:
        table = _table()
        table.add_column(no_wrap=True, style="cyan")
        table.add_column()
        for name, text in pairs:
            table.add_row(name, self._prose(text))
        self._show(table, indent)

    def keys(self, keys: Iterable[Mapping[str, Any]]) -> None:
        table = _table()
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(style="dim", max_width=24)
        table.add_column()
        for row in keys:
            told = self._prose(row["description"])
            if row["required"]:
                told.append(" Required.", style="bold")
            elif row["default"] not in (None, "", []) and not isinstance(row["default"], dict):
                told.append(f" Default: {_default(row)}.", style="dim")
            table.add_row(row["key"], row["type"], told)
        self._show(table, 2)

    def _show(self, table: Table, indent: int) -> None:
        padded = Padding(table, (0, 0, 0, indent), expand=False)
        self.console.print(padded, width=self._width, soft_wrap=False)

    def _prose(self, text: str, style: str = "") -> Text:
        if not self._colour:
            return Text(text, style=style)
        out = Text(style=style)
        for index, part in enumerate(_CODE.split(text)):
            out.append(part, style="cyan" if index % 2 else "")
        return out


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)


def _documentation(kind: type[Kind]) -> str:
    # The class's own: a docstring inherited from a base would describe another kind.
    return _CODE.sub(r"`\1`", inspect.cleandoc(kind.__doc__ or ""))


def keys_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """JSON values: ``key type required default description`` of every key, those first that are
    required."""
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    found = [
        {
            "key": key,
            "type": _type(value, schema.get("$defs", {})),
            "required": key in required,
            "default": value.get("default"),
            "description": " ".join(value.get("description", "").split()),
        }
        for key, value in schema.get("properties", {}).items()
    ]
    return sorted(found, key=lambda row: not row["required"])


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        kinds = [one for one in schema["anyOf"] if one.get("type") != "null"]
        words = list(dict.fromkeys(_type(one, definitions) for one in kinds))
        if len(words) == 2 and words[1] == f"list of {_plural(words[0])}":
            return f"{words[0]}, or a list"
        return " or ".join(words)
    formats = {"duration": "duration", "date-time": "moment", "size": "size"}
    if schema.get("format") in formats:
        return formats[schema["format"]]
    if schema.get("type") == "array":
        inner: Any = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
        return f"list of {_plural(_type(inner, definitions))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"mapping to {_type(inner, definitions)}" if isinstance(inner, dict) else "mapping"
    plain = {"string": "text", "integer": "whole number", "number": "number",
             "boolean": "true | false"}
    return plain.get(str(schema.get("type")), "anything")


def _plural(word: str) -> str:
    return f"{word}s" if word.endswith("number") else word


def _default(row: Mapping[str, Any]) -> str:
    value = row["default"]
    if row["type"] == "duration":
        return format_duration(float(value)).replace(" ", "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("where", _SCOPES[told["scope"]]), ("undo", told["undo"])]
    if told["needs"]:
        found.append(("needs", f"looked at by `rehearse --level probe`: {told['needs']}"))
    if told["check"]:
        found.append(("check", "it never acts, so it may stand in `requires:` and `verify:` too"))
    if told["poll"]:
        poll = told["poll"]
        found.append((
            "poll", f"every {format_duration(poll['every'])} for "
            f"{format_duration(poll['timeout'])}, unless the step has a `poll:`"
        ))
    if told["idempotent"]:
        found.append(("crash", "safe to repeat when nobody knows whether it was done"))
    return found


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]

