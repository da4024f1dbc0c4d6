"""Which names a template reads, found in its syntax tree without rendering it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import TemplateError, meta, nodes

from runbook.errors import TemplateFault
from runbook.templating.bounded import BoundedEnvironment

_PARSER = BoundedEnvironment()
"""Parses only. To find names Jinja also works constants out, so it has to be one with bounds."""

_DEFAULTS = frozenset({"default", "d"})
_TESTS = frozenset({"defined", "undefined"})


@dataclass(frozen=True, slots=True)
class Reference:
    """``outputs.lower_ttl.old`` is ``("outputs", "lower_ttl", "old")``.

    The path ends where it stops being written out (``outputs.a[host.name]``). ``guarded``: the
    template copes with its absence (``default``, ``is defined``, one side of a condition).
    """

    path: tuple[str, ...]
    guarded: bool


@functools.lru_cache(maxsize=8192)
def references(text: str) -> tuple[Reference, ...]:
    """Every reference to a name the template does not define itself. Raises TemplateFault."""
    try:
        tree = _PARSER.parse(text)
        free = meta.find_undeclared_variables(tree)
    except TemplateError as fault:
        raise TemplateFault(f"not a valid template: {fault.message or fault}") from fault
    found = dict.fromkeys(ref for ref in _walk(tree, False) if ref.path[0] in free)
    return tuple(found)


def _chain(node: nodes.Node) -> tuple[tuple[str, ...], bool, list[nodes.Node]] | None:
    """(path, whole, inner expressions) of a chain of attributes that starts at a name."""
    if isinstance(node, nodes.Name):
        return (node.name,), True, []
    if isinstance(node, nodes.Getattr):
        found = _chain(node.node)
        if found is None:
            return None
        path, whole, inner = found
        return ((*path, node.attr) if whole else path), whole, inner
    if isinstance(node, nodes.Getitem):
        found = _chain(node.node)
        if found is None:
            return None
        path, whole, inner = found
        if whole and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            return (*path, node.arg.value), True, inner
        return path, False, [*inner, node.arg]
    return None


def _walk(node: nodes.Node, guarded: bool) -> Iterator[Reference]:
    chain = _chain(node)
    if chain is not None:
        yield Reference(chain[0], guarded)
        for inner in chain[2]:
            yield from _walk(inner, guarded)
        return
    for child, loose in _children(node):
        yield from _walk(child, guarded or loose)


def _children(node: nodes.Node) -> Iterator[tuple[nodes.Node, bool]]:
    """Children, each with whether the node lets it be absent."""
    if isinstance(node, nodes.CondExpr):
        yield node.test, False
        yield node.expr1, True
        if node.expr2 is not None:
            yield node.expr2, True
        return
    if isinstance(node, nodes.If):
        yield node.test, False
        for part in (*node.body, *node.elif_, *node.else_):
            yield part, True
        return
    if isinstance(node, nodes.And | nodes.Or):
        yield node.left, False
        yield node.right, True
        return
    loose = (isinstance(node, nodes.Filter) and node.name in _DEFAULTS) or (
        isinstance(node, nodes.Test) and node.name in _TESTS
    )
    for child in node.iter_child_nodes():
        yield child, loose and child is getattr(node, "node", None)
