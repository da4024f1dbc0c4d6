"""Rendering the values of a step, with every fault told at the place of its scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.errors import Position, TemplateFault
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.planning.scope import Scope
from runbook.templating import is_template, render
from runbook.templating.references import Reference, references
from runbook.templating.values import did_you_mean, plain, protect

Where = Callable[[ValuePath], Position]

_ATTRIBUTES = {"secrets": "secret", "params": "parameter", "vars": "variable"}


@dataclass(frozen=True, slots=True)
class LateReference:
    """``outputs.…`` somewhere in a step that comes after ``after``; checked when the whole
    graph is known."""

    reference: Reference
    prefix: str
    owner: str
    position: Position


@dataclass(slots=True)
class Facts:
    """What a tree of scalars needs. ``names``: what its late scalars read."""

    late: bool = False
    host: bool = False
    ok: bool = True
    names: frozenset[str] = frozenset()


class Renderer:
    """Scans and renders trees of scalars; collects problems and late references."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.late_references: list[LateReference] = []

    def scan(
        self, value: Any, scope: Scope, where: Where, *, owner: str, has_host: bool = False,
        path: ValuePath = (),
    ) -> Facts:
        """Look at every template in a tree once, without rendering. Faults are collected."""
        facts = Facts()
        self._scan(value, scope, where, owner, has_host, path, facts)
        return facts

    def _scan(
        self, value: Any, scope: Scope, where: Where, owner: str, has_host: bool,
        path: ValuePath, facts: Facts,
    ) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                self._scan(item, scope, where, owner, has_host, (*path, key), facts)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                self._scan(item, scope, where, owner, has_host, (*path, index), facts)
        elif is_template(value):
            try:
                found = references(value)
            except TemplateFault as fault:
                self._problems.add(fault.message, where(path), scope.trail)
                facts.ok = False
                return
            for reference in found:
                problem = _unknown(reference, scope, has_host)
                if problem is not None:
                    self._problems.add(problem[0], where(path), _join(problem[1], scope.trail))
                    facts.ok = False
                if reference.path[0] == "outputs":
                    self.late_references.append(
                        LateReference(reference, scope.prefix, owner, where(path))
                    )
            names = scope.late_names(value)
            facts.late = facts.late or bool(names)
            facts.host = facts.host or any(ref.path[0] == "host" for ref in found)
            facts.names |= names

    def render(
        self, value: Any, scope: Scope, where: Where, facts: Facts, *, host: Any = None,
        keep: bool = False, path: ValuePath = (),
    ) -> Any:
        """The tree with every early scalar rendered; None where a fault was collected.

        Late scalars stay templates; in a tree that has any, rendered texts that look like
        templates are protected. ``keep``: hosts stay hosts, else the result is plain JSON.
        """
        if not facts.ok:
            return None
        values = scope.values if host is None else scope.with_host(host)
        before = len(self._problems)
        made = self._render(value, values, scope, where, facts.late, keep, path)
        return made if len(self._problems) == before else None

    def _render(
        self, value: Any, values: Mapping[str, Any], scope: Scope, where: Where, late: bool,
        keep: bool, path: ValuePath,
    ) -> Any:
        if isinstance(value, str):
            if not is_template(value) or (late and scope.late_names(value)):
                return value
            try:
                made = render(value, values)
                made = _settle(made) if keep else plain(made)
            except TemplateFault as fault:
                self._problems.add(fault.message, where(path), _join(fault.hint, scope.trail))
                return None
            return _protected(made) if late else made
        if isinstance(value, Mapping):
            return {
                key: self._render(item, values, scope, where, late, keep, (*path, key))
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self._render(item, values, scope, where, late, keep, (*path, index))
                for index, item in enumerate(value)
            ]
        return value if keep else plain(value)


def _settle(value: Any) -> Any:
    """Keeps hosts and plain values; a generator becomes a list."""
    if value is None or isinstance(value, str | bool | int | float | Mapping):
        return value
    return [_settle(item) for item in value] if hasattr(value, "__iter__") else plain(value)


def _protected(value: Any) -> Any:
    if type(value) is str:
        return protect(value)
    if isinstance(value, list):
        return [_protected(item) for item in value]
    if isinstance(value, dict):
        return {key: _protected(item) for key, item in value.items()}
    return value


def _join(hint: str, trail: str) -> str:
    return "; ".join(part for part in (hint, trail) if part)


def _unknown(reference: Reference, scope: Scope, has_host: bool) -> tuple[str, str] | None:
    """(message, hint) where a reference leads nowhere."""
    root, *rest = reference.path
    if reference.guarded or root == "outputs" or root in scope.late:
        return None
    if root == "host" and has_host:
        return None
    if root not in scope.values:
        return f"unknown name `{root}`", _why_unknown(root, scope)
    if root in _ATTRIBUTES and rest and rest[0] not in scope.late:
        known = scope.values[root]
        if rest[0] not in known:
            return f"there is no {_ATTRIBUTES[root]} `{rest[0]}`", did_you_mean(rest[0], known)
    return None


def _why_unknown(name: str, scope: Scope) -> str:
    if name == "host":
        return "`host` exists in the values of a step with `hosts:`, one node a host"
    if name == "item":
        return "`item` exists in a step with `foreach:`"
    if name == "window":
        return "the runbook has no `window:`"
    if name == "params":
        return "`params` exists inside a playbook"
    hint = did_you_mean(name, {*scope.values, *scope.late, "outputs"})
    if scope.prefix:
        return f"a playbook sees only its parameters; {hint}"
    return hint
