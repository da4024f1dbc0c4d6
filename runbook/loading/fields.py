"""Typed access to one mapping of a document; every fault becomes a diagnostic with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.errors import Position, TemplateFault
from runbook.loading.yaml import Document
from runbook.model.duration import parse_duration
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

Render = Callable[[str], Any]
"""Renders a scalar now. Raises TemplateFault."""

ID = re.compile(r"[a-z0-9][a-z0-9-]*")
_LONGEST_ID = 100
"""Characters: ids become names of files and folders, of which most systems allow 255 bytes."""
_UNKNOWN_NAME = re.compile(r"'(\w+)' is undefined")


@dataclass(frozen=True, slots=True)
class Context:
    """A document, where its faults go, and how its scalars are rendered.

    ``render`` None: templates cannot be rendered yet here (in a playbook), so a value that has to
    be known at once cannot be one.
    """

    document: Document
    problems: Problems
    render: Render | None = None

    def at(self, path: ValuePath) -> Position:
        return self.document.source.at(path)

    def key_at(self, path: ValuePath) -> Position:
        return self.document.source.key_at(path)

    def fault(self, path: ValuePath, message: str, hint: str = "") -> None:
        self.problems.add(message, self.at(path), hint)

    def fault_at_key(self, path: ValuePath, message: str, hint: str = "") -> None:
        self.problems.add(message, self.key_at(path), hint)

    def rendered(self, value: Any, path: ValuePath) -> Any:
        """The value, rendered where it is a template; None, with a diagnostic, on a fault."""
        if not is_template(value):
            return value
        if self.render is None:
            self.fault(path, "this has to be known at once and cannot be a template in a playbook")
            return None
        try:
            return self.render(value)
        except TemplateFault as fault:
            named = _UNKNOWN_NAME.search(fault.message)
            place = self.document.find(path, named[1]) if named else self.at(path)
            self.problems.add(fault.message, place)
            return None


_MEANT = {"needs": "after", "depends_on": "after"}
"""What other tools call a key, which no likeness of the words would find."""


def describe(value: Any) -> str:
    """A value's type in words, for ``wants text, not …``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else "a text"
    return "a list" if isinstance(value, list) else "a mapping"


class Fields:
    """One mapping. Unknown keys are reported at once; each getter reports a wrong type.

    A getter returns its default where the key is missing, empty, or wrong (then with a
    diagnostic), so that reading goes on and later faults are found too.
    """

    def __init__(
        self, ctx: Context, path: ValuePath, raw: Any, known: Iterable[str], what: str
    ) -> None:
        self.ctx = ctx
        self.path = path
        self.what = what
        self.raw: dict[str, Any] = {}
        self.usable = isinstance(raw, dict)
        self._known = frozenset(known)
        if not isinstance(raw, dict):
            ctx.fault(path, f"{what} wants a mapping, not {describe(raw)}", self._example())
            return
        self.raw = raw
        for key in raw:
            if key not in self._known:
                meant = _MEANT.get(key)
                ctx.fault_at_key(
                    (*path, key), f"unknown key `{key}` in {what}",
                    f"did you mean `{meant}`?" if meant in self._known
                    else did_you_mean(key, self._known),
                )

    def _example(self) -> str:
        few = len(self._known) <= 13
        return "its keys are: " + ", ".join(sorted(self._known)) if few else ""

    def __contains__(self, key: str) -> bool:
        return self.raw.get(key) is not None

    def where(self, key: str) -> ValuePath:
        return (*self.path, key)

    def wrong(self, key: str, wanted: str, value: Any, hint: str = "") -> None:
        self.ctx.fault(self.where(key), f"`{key}` wants {wanted}, not {describe(value)}", hint)

    def require(self, key: str, hint: str = "") -> None:
        """A diagnostic when the key is missing or empty."""
        if self.usable and key not in self:
            at = self.ctx.key_at(self.where(key)) if key in self.raw else self.ctx.at(self.path)
            self.ctx.problems.add(f"`{key}` is missing in {self.what}", at, hint)

    def now(self, key: str) -> Any:
        """The value, rendered."""
        return self.ctx.rendered(self.raw.get(key), self.where(key))

    def raw_text(self, key: str) -> str | None:
        """Text that may stay a template."""
        return self._as_text(key, self.raw.get(key))

    def text(self, key: str) -> str | None:
        """Text, rendered."""
        return self._as_text(key, self.now(key))

    def _as_text(self, key: str, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        hint = "quote it" if isinstance(value, bool | int | float) else ""
        self.wrong(key, "text", value, hint)
        return None

    def flag(self, key: str, default: bool) -> bool:
        value = self.now(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(key, "true or false", value)
        return default

    def whole(self, key: str, default: int | None, *, least: int = 0) -> int | None:
        """A whole number of at least ``least``."""
        value = self.now(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.wrong(key, f"a whole number from {least} on", value)
        return default

    def number(self, key: str, default: float, *, least: float) -> float:
        value = self.now(key)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= least:
            return float(value)
        self.wrong(key, f"a number from {least:g} on", value)
        return default

    def duration(self, key: str) -> float | None:
        """Seconds."""
        value = self.now(key)
        if value is None:
            return None
        if isinstance(value, list | dict):
            self.wrong(key, "a duration like 90s, 10m or 1h30m", value)
            return None
        try:
            return parse_duration(value)
        except ValueError as fault:
            self.ctx.fault(self.where(key), f"`{key}`: {fault}")
            return None

    def choice(self, key: str, options: Sequence[str]) -> str | None:
        value = self.now(key)
        if value is None or (isinstance(value, str) and value in options):
            return value
        wanted = " or ".join([", ".join(options[:-1]), options[-1]] if options[1:] else options)
        hint = did_you_mean(value, options) if isinstance(value, str) else ""
        self.wrong(key, wanted, value, hint if hint.startswith("did") else "")
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; one text stands for a list of one."""
        value = self.raw.get(key)
        if isinstance(value, str):
            rendered = self.text(key)
            return () if rendered is None else (rendered,)
        found: list[str] = []
        for index, item in enumerate(self.listing(key)):
            path = (*self.where(key), index)
            made = self.ctx.rendered(item, path)
            if isinstance(made, str):
                found.append(made)
            elif not is_template(item):
                self.ctx.fault(path, f"`{key}` wants a list of texts, not {describe(item)}")
        return tuple(found)

    def listing(self, key: str) -> list[Any]:
        value = self.raw.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self.wrong(key, "a list", value)
        return []

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.raw.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self.wrong(key, "a mapping", value)
        return {}


def check_id(ctx: Context, path: ValuePath, what: str, value: str) -> bool:
    """Whether a text can be an id; a diagnostic when not."""
    if len(value) > _LONGEST_ID:
        ctx.fault(path, f"{what} of {len(value)} characters: {_LONGEST_ID} are the most",
                  "say the rest in `title:`")
        return False
    if ID.fullmatch(value):
        return True
    better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")
    ctx.fault(
        path, f"{value!r} cannot be {what}: small letters, digits and `-` only",
        f"write {better}" if better else "",
    )
    return False
