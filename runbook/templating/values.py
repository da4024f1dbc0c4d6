"""What goes into templates and what comes out of them.

Into: :class:`Names`, a set of names without methods that could hide one of them. Out of them:
:func:`plain`, which brings any result down to JSON values, and :func:`protect`, which keeps a
text that only looks like a template from being rendered a second time.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from runbook.errors import TemplateFault
from runbook.templating import is_template


class Names:
    """Values by name for templates: ``secrets.tsig``, ``outputs.lower_ttl.old``.

    Not a mapping on purpose: an output named ``items`` or ``keys`` must not be hidden by a
    method of that name. A missing name is undefined, as anywhere else in a template.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def plain(value: Any) -> Any:
    """The value as JSON values only. Hosts become their names, generators become lists.

    Raises TemplateFault for anything that has no JSON form.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TemplateFault(f"the template gives {value}, which is not a number JSON knows")
        return value
    if isinstance(value, Names):
        return {str(name): plain(value[name]) for name in value}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    raise TemplateFault(
        f"the template gives a {type(value).__name__}, not a text, number, list or mapping"
    )


def protect(text: str) -> str:
    """A template that renders to exactly ``text``, whatever ``text`` holds."""
    if not is_template(text):
        return text
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def unprotect(text: str) -> str:
    """The text under :func:`protect`, for showing to people."""
    if text.startswith('{{ "') and text.endswith('" }}'):
        try:
            inner = json.loads(text[3:-3])
        except ValueError:
            return text
        if isinstance(inner, str):
            return inner
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean …?``, or what there is, or nothing where there is nothing."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"`{name}`" for name in close) + "?"
    if not names:
        return ""
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"there is: {shown}"
