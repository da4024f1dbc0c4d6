"""Which names templates use, held against the names there will be when they are rendered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.errors import TemplateFault
from runbook.loading.fields import Context
from runbook.model.inventory import Host, Inventory
from runbook.model.runbook import ValuePath
from runbook.templating import is_template
from runbook.templating.references import Reference, references
from runbook.templating.values import did_you_mean

_ALWAYS = frozenset({"runbook", "hosts", "secrets", "outputs"})
_HOSTS = ("one", "all", "count")
_RUNBOOK = ("id", "title", "owner")
_WINDOW = ("start", "end", "start_unix", "end_unix", "duration", "timezone")


@dataclass(frozen=True, slots=True)
class TemplateNames:
    """What templates of steps can use: in a runbook its variables, in a playbook its
    parameters."""

    own: frozenset[str]
    """Variables or parameters, by their bare names."""
    group: str
    """``vars`` or ``params``: the name under which all of them stand."""
    secrets: Collection[str]
    window: bool
    host_names: frozenset[str]
    """What ``host.NAME`` can be."""
    tainted: frozenset[str] = frozenset()
    """Variables that hold a secret."""

    @property
    def roots(self) -> frozenset[str]:
        return self.own | _ALWAYS | {self.group} | ({"window"} if self.window else set())


def host_names(inventory: Inventory) -> frozenset[str]:
    """Attributes that a host has, its variables included."""
    found = set(Host.model_fields)
    for host in inventory.hosts:
        found.update(host.vars)
    return frozenset(found)


class NameChecker:
    """Checks the templates of one document."""

    def __init__(self, ctx: Context, names: TemplateNames) -> None:
        self._ctx = ctx
        self._names = names
        self._roots = names.roots

    def tree(
        self, value: Any, path: ValuePath, *, host: bool = False, item: bool = False,
        secrets: bool = True,
    ) -> None:
        """Every template in a tree. ``host``/``item``: these names exist too. ``secrets`` false:
        the text ends up where secrets must not be."""
        if isinstance(value, dict):
            for key, one in value.items():
                self.tree(one, (*path, key), host=host, item=item, secrets=secrets)
        elif isinstance(value, list | tuple):
            for index, one in enumerate(value):
                self.tree(one, (*path, index), host=host, item=item, secrets=secrets)
        elif is_template(value):
            self.text(value, path, host=host, item=item, secrets=secrets)

    def text(
        self, text: str, path: ValuePath, *, host: bool = False, item: bool = False,
        secrets: bool = True,
    ) -> None:
        """One template."""
        try:
            found = references(text)
        except TemplateFault as fault:
            self._ctx.fault(path, fault.message, "expressions are those of Jinja2")
            return
        for reference in found:
            root = reference.path[0]
            if not secrets and (root == "secrets" or root in self._names.tainted):
                self._exposed(reference, path)
            if (root == "host" and host) or (root == "item" and item):
                if root == "host":
                    self._attribute(reference, path, self._names.host_names, "no host has")
                continue
            if reference.guarded:
                continue
            if root not in self._roots:
                self._ctx.problems.add(
                    f"unknown name `{root}`", self._ctx.document.find(path, root), self._why(root)
                )
                continue
            self._member(reference, path)

    def _exposed(self, reference: Reference, path: ValuePath) -> None:
        name = reference.path[-1]
        variable = name.upper() if name.isidentifier() else "SECRET"
        self._ctx.problems.add(
            "a secret in the text of a command could be seen in the process list and in logs",
            self._ctx.document.find(path, reference.path[0]),
            f'give it as env: {{{variable}: "{{{{ {".".join(reference.path)} }}}}"}} and write '
            f'"${variable}"',
        )

    def _member(self, reference: Reference, path: ValuePath) -> None:
        names = self._names
        known: Mapping[str, tuple[Collection[str], str]] = {
            "secrets": (names.secrets, "there is no secret"),
            "vars": (names.own, "there is no variable"),
            "params": (names.own, "there is no parameter"),
            "hosts": (_HOSTS, "`hosts` has no"),
            "runbook": (_RUNBOOK, "`runbook` has no"),
            "window": (_WINDOW, "`window` has no"),
        }
        root = reference.path[0]
        if root in known and root not in names.own:
            self._attribute(reference, path, *known[root])

    def _attribute(
        self, reference: Reference, path: ValuePath, known: Collection[str], message: str
    ) -> None:
        if len(reference.path) < 2 or reference.guarded:
            return
        name = reference.path[1]
        if name in known or (reference.path[0] == "host" and hasattr(str, name)):
            return
        self._ctx.problems.add(
            f"{message} `{name}`", self._ctx.document.find(path, name), did_you_mean(name, known)
        )

    def _why(self, name: str) -> str:
        if name == "host":
            return "`host` exists in the values of a step with `hosts:`, one node a host"
        if name == "item":
            return "`item` exists in a step with `foreach:`"
        if name == "window":
            return "the runbook has no `window:`"
        if name == "params":
            return "`params` exists inside a playbook"
        hint = did_you_mean(name, self._roots)
        if self._names.group == "params":
            return f"a playbook sees only its parameters; {hint}"
        return hint
