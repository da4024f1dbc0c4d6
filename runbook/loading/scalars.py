"""What a plain YAML scalar means: the core schema of YAML 1.2, without its surprises.

Spellings that YAML 1.1 and 1.2 read differently (``no``, ``22:30``, ``0644``) are faults, because
half of the readers of a runbook, people and programs, would read the other thing.
Sources: YAML 1.2.2 section 10.3.2 (core schema); YAML 1.1 types bool, int and float.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}
_WORDS = {
    spelling: value
    for words, value in ((("y", "yes", "on"), True), (("n", "no", "off"), False))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_STARTS = frozenset("0123456789+-.~nNtTfFyYoO")
_LONGEST_NUMBER = 40


@dataclass(frozen=True, slots=True)
class Trap:
    """A plain scalar that would be a surprise, and how to write what was meant."""

    message: str
    hint: str


def resolve_plain(text: str, *, words: bool = False) -> str | int | float | bool | Trap | None:
    """The value of an unquoted scalar, or a Trap. Dates stay text.

    With ``words`` true, ``yes``/``no``/``on``/``off`` are booleans, as Ansible reads them.
    """
    if text == "":
        return None
    if text[0] not in _STARTS:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in _WORDS:
        return _WORDS[text] if words else _word(text)
    return _number(text) if text[0] in "0123456789+-." else text


def _word(text: str) -> Trap:
    value = "true" if _WORDS[text] else "false"
    return Trap(
        f"`{text}` is the boolean {value} for some readers of YAML and a text for others",
        f'write {value}, or "{text}" for the text',
    )


def _number(text: str) -> str | int | float | Trap:
    if _INT.fullmatch(text):
        if len(text) > _LONGEST_NUMBER:
            return Trap("a number of this length is surely a text", "quote it")
        return int(text)
    if _SEXAGESIMAL.fullmatch(text):
        return Trap(
            f"`{text}` is the number {_base_sixty(text)} for some readers of YAML",
            f'quote it: "{text}"',
        )
    if _LEADING_ZERO.fullmatch(text):
        return Trap(
            f"`{text}` is an octal number for some readers of YAML and a decimal one for others",
            f'quote it: "{text}" (a file mode is a text), or leave out the leading zero',
        )
    if _UNDERSCORES.fullmatch(text):
        return Trap(
            f"`{text}` is a number for some readers of YAML and a text for others",
            f'write {text.replace("_", "")}, or "{text}" for the text',
        )
    if _OTHER_BASE.fullmatch(text) and len(text) <= _LONGEST_NUMBER:
        return int(text, 0)
    if _NOT_FINITE.fullmatch(text):
        return Trap(f"`{text}` is not a number that can be used here", "quote it for the text")
    if _FLOAT.fullmatch(text):
        value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
        if not math.isfinite(value):
            return Trap(f"`{text}` is too great for a number", "quote it for the text")
        return value
    return text


def _base_sixty(text: str) -> str:
    if len(text) > _LONGEST_NUMBER:
        return "in base 60"
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    whole, _, fraction = digits.replace("_", "").partition(".")
    total = 0
    for part in whole.split(":"):
        total = total * 60 + int(part)
    return f"{sign * total}{'.' + fraction if fraction else ''}"
