"""Jinja2 for single scalars, sandboxed and strict.

A scalar is rendered after YAML parsing, so a value can never change the structure. A scalar that
is one expression alone (``{{ port }}``) keeps the value's type; any other renders to text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError, Undefined, meta, nodes
from jinja2.exceptions import SecurityError, UndefinedError

from runbook.errors import TemplateFault
from runbook.templating.bounded import MAX_OUTPUT, BoundedEnvironment

LATE_NAMES = frozenset({"outputs"})
"""Names that exist only once earlier steps have run."""

_ENV = BoundedEnvironment()

_CONTROL = re.compile(r"^[-+]|[-+]$")
"""Of whitespace, at the braces: ``{{- x -}}``. A minus after a space is one of the expression."""


def is_template(value: object) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)


@functools.lru_cache(maxsize=8192)
def names_used(text: str) -> frozenset[str]:
    """Top-level names a template reads. Raises TemplateFault when it does not parse."""
    try:
        return frozenset(meta.find_undeclared_variables(_ENV.parse(text)))
    except TemplateError as fault:
        raise TemplateFault(f"not a valid template: {fault.message or fault}") from fault


def is_late(value: object) -> bool:
    """Whether the value needs outputs of earlier steps."""
    return is_template(value) and bool(names_used(str(value)) & LATE_NAMES)


@functools.lru_cache(maxsize=8192)
def _compile(text: str) -> tuple[bool, Any]:
    try:
        tree = _ENV.parse(text)
        body = tree.body
        single = (
            len(body) == 1
            and isinstance(body[0], nodes.Output)
            and len(body[0].nodes) == 1
            and not isinstance(body[0].nodes[0], nodes.TemplateData)
            and text.strip().startswith("{{")
        )
        if single:
            inner = _CONTROL.sub("", text.strip()[2:-2])
            return True, _ENV.compile_expression(inner.strip(), undefined_to_none=False)
        return False, _ENV.from_string(text)
    except TemplateError as fault:
        raise TemplateFault(f"not a valid template: {fault.message or fault}") from fault


def render(value: str, scope: Mapping[str, Any]) -> Any:
    """Render one scalar. A lone ``{{ expression }}`` keeps its type, else the result is text.

    Raises TemplateFault with a readable message: unknown name, unsafe attribute, bad syntax.
    """
    if not is_template(value):
        return value
    lone, compiled = _compile(value)
    try:
        result = compiled(**scope) if lone else compiled.render(scope)
        if isinstance(result, Undefined):
            result._fail_with_undefined_error()
    except UndefinedError as fault:
        raise TemplateFault(str(fault.message or fault)) from fault
    except SecurityError as fault:
        raise TemplateFault(f"not allowed in a template: {fault.message or fault}") from fault
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as fault:
        raise TemplateFault(f"the template cannot be rendered: {fault}") from fault
    if isinstance(result, str) and len(result) > MAX_OUTPUT:
        raise TemplateFault(f"the template renders to more than {MAX_OUTPUT} characters")
    return result


def render_tree(value: Any, scope: Mapping[str, Any], *, late: bool = False) -> Any:
    """Render every scalar in nested lists and mappings (never their keys).

    With ``late`` false, scalars that need outputs are left as they are.
    """
    if isinstance(value, str):
        if not late and is_late(value):
            return value
        return render(value, scope)
    if isinstance(value, Mapping):
        return {key: render_tree(item, scope, late=late) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render_tree(item, scope, late=late) for item in value]
    return value


def evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    """Value of a bare expression, as in ``when:`` (``{{ }}`` around it is accepted)."""
    text = expression if is_template(expression) else "{{ " + expression + " }}"
    return render(text, scope)
