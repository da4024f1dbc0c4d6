"""A sandbox in which no short expression makes a value that fills the memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT = 2 * 1024 * 1024
"""Characters of a rendered text, or items of a repeated list. An output has 1 MiB at the most."""

_MAX_BITS = 4096
"""Of a whole number."""
_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_FILTERS = ("center", "indent", "batch", "slice")
_WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*(\*|\d{6,})")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Strict, without globals. What would be too large raises SecurityError before it is made."""

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
        )
        self.globals.clear()
        self.intercepted_binops = frozenset({"*", "**", "%"})
        for name in _FILTERS:
            self.filters[name] = _narrow(self.filters[name])
        self.filters["format"] = _format

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """As the operator does."""
        if operator == "%":
            _check_format(left)
        elif _size(operator, left, right) or _size(operator, right, left):
            raise SecurityError(f"{operator} makes something too large")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """As the method does; the names are out of the way of its own arguments."""
        if getattr(__obj, "__name__", "") in _WIDTHS:
            _check_widths(args)
        return super().call(__context, __obj, *args, **kwargs)


def _size(operator: str, one: Any, other: Any) -> bool:
    """Whether ``one`` by ``other`` is too large; for the power, in this order alone."""
    if not isinstance(other, int):
        return False
    if isinstance(one, int):
        bits = one.bit_length()
        return (bits * abs(other) if operator == "**" else bits + other.bit_length()) > _MAX_BITS
    return operator == "*" and isinstance(one, Sized) and len(one) * other > MAX_OUTPUT


def _narrow(made: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_widths((*args, *kwargs.values()))
        return made(*args, **kwargs)

    # How Jinja knows whether a filter wants its environment first.
    checked.__dict__.update(made.__dict__)
    return checked


def _check_widths(arguments: tuple[Any, ...]) -> None:
    if any(isinstance(one, int) and one > MAX_OUTPUT for one in arguments):
        raise SecurityError(f"a width is {MAX_OUTPUT} at the most")


def _format(value: str, *args: Any, **kwargs: Any) -> Any:
    """As Jinja's filter of this name."""
    _check_format(value)
    return str(value) % (kwargs or args)


def _check_format(value: Any) -> None:
    if isinstance(value, str) and _WIDE_FORMAT.search(value):
        raise SecurityError("a width in a format has five digits at the most")
