"""Inventories: our own format, inline or in a file of its own, and a strict part of Ansible's.

Own format::

    sites: {east: {title: East, resolver: 198.51.100.53}}
    hosts:
      east-web: {address: 198.51.100.10, site: east, roles: [web], vars: {port: 8080}}
    groups: {front: [east-web]}
    ssh_config: ssh_config          # paths are relative to the runbook's folder
    known_hosts: [known_hosts]

Inventories hold no templates: they are what templates ask about.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runbook.errors import Position
from runbook.loading.ansible import read_ansible_yaml
from runbook.loading.ansible_ini import read_ansible_ini
from runbook.loading.fields import Context, Fields
from runbook.loading.yaml import decode, parse, read_bytes
from runbook.model.inventory import Host, Inventory, Site
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

OWN_KEYS = ("sites", "hosts", "groups", "ssh_config", "known_hosts")
HOST_KEYS = (
    "address", "port", "user", "site", "roles", "groups", "jump", "identity", "become", "vars",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_inventory_file(
    path: Path, problems: Problems, *, named_at: Position | None = None
) -> Inventory:
    """The inventory in a file, its format told by its content. Faults go to ``problems``."""
    hint = "the path is relative to the runbook's folder"
    data = read_bytes(path, problems, named_at=named_at, hint=hint)
    if data is None:
        return Inventory()
    if data.startswith(b"#!"):
        problems.add(
            "this is a program, and dynamic inventories are not run", Position(path, 1, 1),
            "write its answer to a file: ansible-inventory --list --yaml > inventory.yml",
        )
        return Inventory()
    text = decode(data, path, problems)
    if text is None:
        return Inventory()
    if _is_ini(path, text):
        return read_ansible_ini(text, path, problems)
    guess = parse(data, path, Problems(), words=True)
    if guess is not None and _is_ansible(guess.value):
        document = parse(data, path, problems, words=True)
        return Inventory() if document is None else read_ansible_yaml(document, problems)
    document = parse(data, path, problems)
    if document is None:
        return Inventory()
    return read_own(Context(document, problems), (), document.value)


def read_own(ctx: Context, path: ValuePath, raw: Any) -> Inventory:
    """Our own format at ``path`` of a document (inline under ``inventory:``, or a file)."""
    _refuse_templates(ctx, path, raw)
    ctx = Context(ctx.document, ctx.problems)
    fields = Fields(ctx, path, raw, OWN_KEYS, "the inventory")
    sites = tuple(
        _site(ctx, (*path, "sites", name), name, value)
        for name, value in fields.mapping("sites").items()
    )
    given = fields.mapping("hosts")
    groups = _Groups(fields, frozenset(given))
    hosts = tuple(
        _host(ctx, (*path, "hosts", name), name, value, frozenset(s.name for s in sites), groups)
        for name, value in given.items()
    )
    check_jumps(ctx, path, hosts)
    return Inventory(
        hosts=hosts, sites=sites, known_hosts=fields.texts("known_hosts"),
        ssh_config=fields.text("ssh_config"),
    )


def _site(ctx: Context, path: ValuePath, name: str, raw: Any) -> Site:
    _check_name(ctx, path, name, "site")
    fields = Fields(ctx, path, raw or {}, ("title", "resolver"), f"site `{name}`")
    return Site(name=name, title=fields.text("title") or "", resolver=fields.text("resolver"))


class _Groups:
    """``groups: {front: [a, b]}`` or ``{front: {hosts: [a, b], vars: {…}}}``."""

    def __init__(self, fields: Fields, hosts: frozenset[str]) -> None:
        self._of: dict[str, list[str]] = {}
        self._vars: dict[str, dict[str, Any]] = {}
        ctx = fields.ctx
        for name, value in fields.mapping("groups").items():
            path = (*fields.where("groups"), name)
            _check_name(ctx, path, name, "group")
            if isinstance(value, dict):
                inner = Fields(ctx, path, value, ("hosts", "vars"), f"group `{name}`")
                members, where = inner.texts("hosts"), (*path, "hosts")
                self._vars[name] = inner.mapping("vars")
            else:
                outer = Fields(ctx, fields.where("groups"), {name: value}, (name,), "`groups`")
                members, where = outer.texts(name), path
            for index, member in enumerate(members):
                if member not in hosts:
                    ctx.fault(
                        (*where, index), f"there is no host `{member}`",
                        did_you_mean(member, hosts),
                    )
                self._of.setdefault(member, []).append(name)

    def of(self, host: str) -> list[str]:
        return self._of.get(host, [])

    def vars(self, host: str) -> dict[str, Any]:
        return {k: v for name in self.of(host) for k, v in self._vars.get(name, {}).items()}


def _host(
    ctx: Context, path: ValuePath, name: str, raw: Any, sites: frozenset[str], groups: _Groups
) -> Host:
    _check_name(ctx, path, name, "host")
    fields = Fields(ctx, path, {} if raw is None else raw, HOST_KEYS, f"host `{name}`")
    site = fields.text("site") or ""
    if site and site not in sites:
        ctx.fault(fields.where("site"), f"there is no site `{site}`", did_you_mean(site, sites)
                  or f"declare it: sites: {{{site}: {{}}}}")
    port = fields.whole("port", None, least=1)
    if port is not None and port > 65535:
        fields.wrong("port", "a port from 1 to 65535", port)
    own = fields.texts("groups")
    return Host(
        name=name,
        address=fields.text("address") or name,
        port=port,
        user=fields.text("user"),
        site=site,
        roles=fields.texts("roles"),
        groups=tuple(dict.fromkeys((*own, *groups.of(name)))),
        jump=fields.text("jump"),
        identity=fields.text("identity"),
        become=fields.text("become"),
        vars={**groups.vars(name), **fields.mapping("vars")},
    )


def check_jumps(ctx: Context, path: ValuePath, hosts: tuple[Host, ...]) -> None:
    """Jump hosts exist, and no way to a host leads through itself."""
    by_name = {host.name: host for host in hosts}
    for host in hosts:
        where = (*path, "hosts", host.name, "jump")
        if host.jump is not None and host.jump not in by_name:
            ctx.fault(
                where, f"there is no host `{host.jump}` to jump through",
                did_you_mean(host.jump, by_name) or "a jump host is a host of the inventory",
            )
            continue
        way = [host.name]
        while (through := by_name[way[-1]].jump) is not None and through in by_name:
            if through in way:
                if through == host.name:
                    shown = " → ".join([*way, through])
                    ctx.fault(where, f"the way to `{host.name}` leads through itself: {shown}")
                break
            way.append(through)


def _check_name(ctx: Context, path: ValuePath, name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        ctx.fault_at_key(
            path, f"`{name}` cannot be the name of a {what}",
            "letters, digits, `.`, `_` and `-` only, and a letter or digit at the start",
        )


def _refuse_templates(ctx: Context, path: ValuePath, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_templates(ctx, (*path, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_templates(ctx, (*path, index), item)
    elif is_template(value):
        ctx.problems.add(
            "an inventory holds no templates", ctx.at(path),
            "write the value, or use `vars:` of the runbook", last_word=True,
        )


def _is_ini(path: Path, text: str) -> bool:
    if path.suffix in {".yml", ".yaml", ".json"}:
        return False
    if path.suffix in {".ini", ".cfg"}:
        return True
    lines = [line.strip() for line in text.splitlines()]
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return first.startswith("[") or (first != "---" and not re.match(r"[^\s=]+:(\s|$)", first))


def _is_ansible(value: Any) -> bool:
    """Ansible's top level is groups, ours is the keys above: ``hosts`` is in neither's way."""
    if not isinstance(value, dict):
        return False
    if "plugin" in value or "all" in value or "ungrouped" in value:
        return True
    shapes = [
        isinstance(item, dict) and bool({"hosts", "children", "vars"} & set(item))
        for key, item in value.items()
        if key not in OWN_KEYS
    ]
    return bool(shapes) and all(shapes) and not set(value) & set(OWN_KEYS)
