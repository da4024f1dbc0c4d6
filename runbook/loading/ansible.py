"""A strict part of Ansible's inventories, YAML flavour, and what both flavours share.

Read: groups, ``children``, ``vars``, host ranges (``web[01:10]``), and of the connection
variables ``ansible_host``, ``ansible_port``, ``ansible_user``, ``ansible_ssh_private_key_file``.
A host's site is its variable ``site``, else the group of its groups that is called so by
``runbook_sites`` (a variable of ``all``); its roles are its variable ``roles``, else its groups.
Everything that would have to be executed or decrypted (plugins, templates, vault) is refused with
its place. Source: Ansible documentation, "How to build your inventory".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from runbook.errors import Position
from runbook.loading.fields import Context, describe
from runbook.loading.yaml import Document
from runbook.model.inventory import Host, Inventory, Site
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

_RANGE = re.compile(r"\[(\w+):(\w+)(?::(\d+))?\]")
_MOST_HOSTS = 10_000
_MOST_RANGES = 4
_ALL = "all"
_USED = {
    "ansible_host", "ansible_port", "ansible_user", "ansible_ssh_private_key_file",
    "ansible_ssh_host", "ansible_ssh_port", "ansible_ssh_user",
}
_HARMLESS = {
    "ansible_python_interpreter", "ansible_become", "ansible_become_user",
    "ansible_become_method",
}
"""They speak of how Ansible works, not of where the host is."""
_NOT_READ = {
    "ansible_ssh_common_args": "set ProxyJump and the like in an ssh_config",
    "ansible_ssh_extra_args": "set such options in an ssh_config",
    "ansible_password": "passwords are not kept in inventories; use keys or an agent",
    "ansible_ssh_pass": "passwords are not kept in inventories; use keys or an agent",
    "ansible_become_password": "declare it under `secrets:` and name it as `become:` of the host",
}


class BadRange(ValueError):
    """A host range that cannot be expanded."""


def expand_range(pattern: str) -> list[str]:
    """``web[01:03]`` → web01, web02, web03; also ``db-[a:f]`` and steps. Raises BadRange."""
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise BadRange(f"{pattern!r} is not a host range; write web[01:10] or db[a:f]")
        return [pattern]
    if pattern.count("[") > _MOST_RANGES:
        raise BadRange(f"more than {_MOST_RANGES} ranges in one name")
    first, last, step = found[1], found[2], int(found[3] or 1)
    if step < 1:
        raise BadRange(f"the step of the range in {pattern!r} is nothing")
    if first.isdecimal() and last.isdecimal() and len(last) <= 9:
        width = len(first) if first.startswith("0") else 0
        bounds = (int(first), int(last))
        items = (str(n).zfill(width) for n in range(bounds[0], bounds[1] + 1, step))
    elif len(first) == len(last) == 1 and first.isascii() and last.isascii():
        bounds = (ord(first), ord(last))
        items = (chr(n) for n in range(bounds[0], bounds[1] + 1, step))
    else:
        raise BadRange(f"the range in {pattern!r} is neither of numbers nor of single letters")
    if bounds[0] > bounds[1]:
        raise BadRange(f"the range in {pattern!r} runs backwards")
    if (bounds[1] - bounds[0]) // step >= _MOST_HOSTS:
        raise BadRange(f"the range in {pattern!r} has more than {_MOST_HOSTS} hosts")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    rest = expand_range(tail)
    made = [f"{head}{item}{end}" for item in items for end in rest]
    if len(made) > _MOST_HOSTS:
        raise BadRange(f"the ranges in {pattern!r} give more than {_MOST_HOSTS} hosts")
    return made


@dataclass(slots=True)
class Group:
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, Position] = field(default_factory=dict)
    vars: dict[str, Any] = field(default_factory=dict)


class Builder:
    """Collects groups, hosts and variables; gives an Inventory."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.groups: dict[str, Group] = {_ALL: Group()}
        self.hosts: dict[str, dict[str, Any]] = {}
        self._places: dict[tuple[str, str, str], Position] = {}

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group())

    def add_hosts(self, group: str, pattern: str, position: Position) -> list[str]:
        """Names the pattern stands for; they are members of the group from now on."""
        try:
            names = expand_range(pattern)
        except BadRange as fault:
            self.problems.add(str(fault), position)
            return []
        for name in names:
            self.group(group).hosts[name] = None
            self.hosts.setdefault(name, {})
        return names

    def set_var(
        self, kind: str, owner: str, name: str, value: Any, position: Position
    ) -> None:
        """``kind`` is ``host`` or ``group``."""
        if _has_template(value):
            self.problems.add(
                f"`{name}` is a template, and templates of Ansible are not rendered", position,
                "write the value",
            )
            return
        if name in _NOT_READ:
            self.problems.add(f"`{name}` is not read", position, _NOT_READ[name])
            return
        if name == "ansible_connection" and value not in {"ssh", "paramiko", "smart"}:
            self.problems.add(f"hosts are reached over SSH, not over {value!r}", position)
            return
        if name.startswith("ansible_") and name not in _USED | _HARMLESS | {"ansible_connection"}:
            self.problems.add(
                f"the Ansible variable `{name}` is not read", position,
                did_you_mean(name, _USED),
            )
            return
        vars_ = self.hosts[owner] if kind == "host" else self.group(owner).vars
        vars_[name] = value
        self._places[kind, owner, name] = position

    def build(self) -> Inventory:
        parents = self._parents()
        sites = _names(self.groups[_ALL].vars.get("runbook_sites"))
        hosts = tuple(self._host(name, parents, sites) for name in self.hosts)
        found = dict.fromkeys((*sites, *(host.site for host in hosts if host.site)))
        return Inventory(hosts=hosts, sites=tuple(Site(name=name) for name in found))

    def _parents(self) -> dict[str, list[str]]:
        """Of each group, the groups it is a child of."""
        parents: dict[str, list[str]] = {name: [] for name in self.groups}
        for name, group in self.groups.items():
            for child, position in group.children.items():
                if child not in self.groups:
                    self.problems.add(
                        f"there is no group `{child}`", position,
                        did_you_mean(child, self.groups),
                    )
                    continue
                if child == name or name in self._below(child):
                    self.problems.add(
                        f"group `{child}` would be inside itself", position
                    )
                    continue
                parents[child].append(name)
        return parents

    def _below(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            group = self.groups.get(waiting.pop())
            for child in group.children if group else ():
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def _host(self, name: str, parents: dict[str, list[str]], sites: list[str]) -> Host:
        chain = self._chain(name, parents)
        groups = [g for g in chain if g not in {_ALL, "ungrouped"}]
        values: dict[str, Any] = {}
        owners: dict[str, tuple[str, str]] = {}
        for group in chain:
            values.update(self.groups[group].vars)
            owners.update(dict.fromkeys(self.groups[group].vars, ("group", group)))
        values.update(self.hosts[name])
        owners.update(dict.fromkeys(self.hosts[name], ("host", name)))

        def take(*keys: str) -> Any:
            return next((values[key] for key in keys if values.get(key) is not None), None)

        port = take("ansible_port", "ansible_ssh_port")
        number = int(port) if isinstance(port, int) or str(port).isdecimal() else None
        if port is not None and (number is None or not 1 <= number <= 65535):
            key = "ansible_port" if "ansible_port" in values else "ansible_ssh_port"
            self.problems.add(
                f"{describe(port)} is not a port", self._places.get((*owners[key], key))
            )
            number = None
        site = values.get("site") or next((g for g in groups if g in sites), "")
        free = {
            key: value for key, value in values.items()
            if not key.startswith("ansible_") and key not in {"site", "roles", "runbook_sites"}
        }
        return Host(
            name=name,
            address=str(take("ansible_host", "ansible_ssh_host") or name),
            port=number,
            user=_text(take("ansible_user", "ansible_ssh_user")),
            site=str(site),
            roles=tuple(_names(values.get("roles")) or [g for g in groups if g != site]),
            groups=tuple(groups),
            identity=_text(take("ansible_ssh_private_key_file")),
            vars=free,
        )

    def _chain(self, host: str, parents: dict[str, list[str]]) -> list[str]:
        """Groups of a host, the widest first; a later one's variables win."""
        above: dict[str, list[str]] = {}
        waiting = [name for name, group in self.groups.items() if host in group.hosts]
        while waiting:
            name = waiting.pop()
            if name not in above:
                above[name] = parents[name]
                waiting.extend(parents[name])
        depth = {_ALL: 0}
        for name in TopologicalSorter(above).static_order():
            depth.setdefault(name, 1 + max((depth[one] for one in above[name]), default=0))
        return sorted(depth, key=lambda name: (depth[name], name))


def read_ansible_yaml(document: Document, problems: Problems) -> Inventory:
    """An Ansible YAML inventory. Faults go to ``problems``."""
    ctx = Context(document, problems)
    top = document.value
    if "plugin" in top:
        ctx.fault_at_key(
            ("plugin",), f"inventory plugins ({top['plugin']}) are not run",
            "write their answer to a file: ansible-inventory --list --yaml > inventory.yml",
        )
        return Inventory()
    builder = Builder(problems)
    for name, value in top.items():
        _group(ctx, builder, (name,), name, value)
    return builder.build()


def _group(ctx: Context, builder: Builder, path: ValuePath, name: str, raw: Any) -> None:
    group = builder.group(name)
    if raw is None:
        return
    if not isinstance(raw, dict):
        ctx.fault(path, f"group `{name}` wants a mapping, not {describe(raw)}")
        return
    for key, value in raw.items():
        below = (*path, key)
        if key not in {"hosts", "children", "vars"}:
            ctx.fault_at_key(
                below, f"unknown key `{key}` in group `{name}`",
                did_you_mean(key, ("hosts", "children", "vars")),
            )
        elif value is None:
            continue
        elif not isinstance(value, dict):
            ctx.fault(below, f"`{key}` wants a mapping, not {describe(value)}",
                      "each name with a `:` at the end")
        elif key == "vars":
            for var, item in value.items():
                builder.set_var("group", name, var, item, ctx.at((*below, var)))
        elif key == "children":
            for child, item in value.items():
                group.children[child] = ctx.key_at((*below, child))
                _group(ctx, builder, (*below, child), child, item)
        else:
            _hosts(ctx, builder, below, name, value)


def _hosts(
    ctx: Context, builder: Builder, path: ValuePath, group: str, raw: dict[str, Any]
) -> None:
    for pattern, vars_ in raw.items():
        names = builder.add_hosts(group, pattern, ctx.key_at((*path, pattern)))
        if vars_ is None:
            continue
        if not isinstance(vars_, dict):
            ctx.fault((*path, pattern), f"host `{pattern}` wants a mapping of variables, not "
                      f"{describe(vars_)}")
            continue
        for var, value in vars_.items():
            for name in names:
                builder.set_var("host", name, var, value, ctx.at((*path, pattern, var)))


def _has_template(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_template(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_template(item) for item in value)
    return is_template(value)


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [word for word in re.split(r"[,\s]+", value) if word]
    return [str(item) for item in value] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
