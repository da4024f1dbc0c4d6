"""``vars:`` rendered in their order, before anything else needs them.

A variable may use those above it, secrets (as marks), ``runbook.id``, and ``hosts``. Those that
lead to ``hosts`` are rendered once the inventory is read, so that its file name can itself be a
template over the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.errors import TemplateFault
from runbook.loading.fields import Context, describe
from runbook.model.runbook import ValuePath
from runbook.model.secrets import MARK
from runbook.model.selector import HostName
from runbook.templating import is_template, render
from runbook.templating.references import references
from runbook.templating.scope import RESERVED
from runbook.templating.values import Names, did_you_mean, plain

_PATH: ValuePath = ("vars",)


class Variables:
    """``values`` holds what is rendered so far; ``declared`` every name there is."""

    def __init__(
        self, ctx: Context, raw: Mapping[str, Any], overrides: Mapping[str, str],
        base: Mapping[str, Any],
    ) -> None:
        self._ctx = ctx
        self._raw = dict(raw)
        self._base = dict(base)
        self._waiting: dict[str, None] = {}
        self.values: dict[str, Any] = {}
        self.declared = frozenset(raw)
        for name in raw:
            self._check_name(name)
        self._fixed = self._overridden(overrides)

    def _check_name(self, name: str) -> None:
        path = (*_PATH, name)
        if name in RESERVED:
            self._ctx.fault_at_key(path, f"a variable cannot be called `{name}`", "rename it")
        elif not (name.isascii() and name.isidentifier()):
            self._ctx.fault_at_key(
                path, f"`{name}` cannot be the name of a variable",
                "letters, digits and `_` only, and no digit at the start",
            )

    def _overridden(self, overrides: Mapping[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, text in overrides.items():
            if name not in self._raw:
                self._ctx.problems.add(
                    f"--var {name}: the runbook has no variable `{name}`",
                    hint=did_you_mean(name, self._raw),
                )
                continue
            try:
                found[name] = _typed(text, self._raw[name])
            except ValueError as fault:
                self._ctx.problems.add(f"--var {name}: {fault}", self._ctx.at((*_PATH, name)))
        return found

    @property
    def scope(self) -> dict[str, Any]:
        """What templates outside of steps may use now."""
        return {**self.values, "vars": Names(self.values), **self._base}

    def tainted(self) -> frozenset[str]:
        """Variables that hold a secret's mark."""
        return frozenset(name for name, value in self.values.items() if _has_mark(value))

    def render_early(self) -> None:
        """Render all that do not lead to ``hosts``."""
        for name in self._raw:
            if name not in self._fixed and self._needs_hosts(self._raw[name]):
                self._waiting[name] = None
            else:
                self._one(name)

    def render_rest(self, hosts: Any) -> None:
        """Render the others."""
        self._base["hosts"] = hosts
        for name in self._waiting:
            self._one(name)
        order = [name for name in self._raw if name in self.values]
        self.values = {name: self.values[name] for name in order}

    def render(self, text: str) -> Any:
        """Raises TemplateFault."""
        return plain(render(text, self.scope))

    def _needs_hosts(self, value: Any) -> bool:
        if isinstance(value, dict):
            return any(self._needs_hosts(item) for item in value.values())
        if isinstance(value, list):
            return any(self._needs_hosts(item) for item in value)
        if not is_template(value):
            return False
        try:
            paths = [one.path for one in references(value)]
        except TemplateFault:
            return False
        return any(
            path[0] == "hosts" or path[0] in self._waiting
            or (path[0] == "vars" and len(path) > 1 and path[1] in self._waiting)
            for path in paths
        )

    def _one(self, name: str) -> None:
        if name in self._fixed:
            self.values[name] = self._fixed[name]
            return
        self.values[name] = self._tree(self._raw[name], (*_PATH, name))

    def _tree(self, value: Any, path: ValuePath) -> Any:
        if isinstance(value, dict):
            return {key: self._tree(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._tree(item, (*path, i)) for i, item in enumerate(value)]
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: ValuePath) -> Any:
        if not is_template(value):
            return value
        try:
            for reference in references(value):
                root = reference.path[0]
                if root not in self.scope and not reference.guarded:
                    message, hint = self._unknown(root, str(path[1]))
                    place = self._ctx.document.find(path, root)
                    self._ctx.problems.add(message, place, hint)
                    return None
            return _keep_hosts(render(value, self.scope))
        except TemplateFault as fault:
            self._ctx.fault(path, fault.message)
            return None

    def _unknown(self, root: str, name: str) -> tuple[str, str]:
        if root == name:
            return f"the variable `{name}` uses itself", ""
        if root in self._raw:
            return f"`{root}` is defined further down", f"move `{root}` above `{name}`"
        if root == "outputs":
            return "a variable cannot depend on outputs: it is known before anything runs", ""
        if root == "window":
            return "a variable cannot use the window, which may itself be made of variables", ""
        return f"unknown name `{root}`", did_you_mean(root, {*self._raw, "hosts", "secrets"})


def _typed(text: str, declared: Any) -> Any:
    """The text of ``--var`` as the type that the runbook gives the variable."""
    if isinstance(declared, bool):
        if text in {"true", "false"}:
            return text == "true"
        raise ValueError(f"true or false is wanted, not {text!r}")
    for kind, word in ((int, "a whole number"), (float, "a number")):
        if isinstance(declared, kind):
            try:
                return kind(text)
            except ValueError as fault:
                raise ValueError(f"{word} is wanted, not {text!r}") from fault
    if isinstance(declared, list | dict):
        raise ValueError(f"the variable is {describe(declared)}; only single values can be set")
    return text


def _keep_hosts(value: Any) -> Any:
    if isinstance(value, HostName):
        return value
    if isinstance(value, list):
        return [_keep_hosts(item) for item in value]
    return plain(value)


def _has_mark(value: Any) -> bool:
    if isinstance(value, str):
        return MARK.search(value) is not None
    if isinstance(value, dict):
        return any(_has_mark(item) for item in value.values())
    return isinstance(value, list) and any(_has_mark(item) for item in value)
