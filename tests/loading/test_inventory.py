"""Inventories: our own format and Ansible's."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from runbook.errors import InvalidInput
from runbook.loading.ansible import BadRange, expand_range
from runbook.loading.inventory import read_inventory_file
from runbook.model.inventory import Host, Inventory
from runbook.model.problems import Problems


def read(tmp_path: Path, name: str, text: str) -> Inventory:
    path = tmp_path / name
    path.write_text(dedent(text), encoding="utf-8")
    problems = Problems()
    found = read_inventory_file(path, problems)
    problems.raise_if_any()
    return found


def host(inventory: Inventory, name: str) -> Host:
    found = inventory.get(name)
    assert found is not None
    return found


def test_own_format(tmp_path: Path) -> None:
    found = read(tmp_path, "inventory.yml", """
        sites: {east: {title: East, resolver: 192.0.2.53}, west: }
        hosts:
          a: {address: 192.0.2.1, port: 2222, user: ops, site: east, roles: [web, db],
              groups: [x], jump: b, identity: key, become: sudo, vars: {disk: sda}}
          b:
        groups: {front: [a], back: {hosts: [a, b], vars: {disk: sdb, size: 5}}}
        ssh_config: ssh_config
        known_hosts: [known_hosts]
    """)
    assert host(found, "a") == Host(
        name="a", address="192.0.2.1", port=2222, user="ops", site="east", roles=("web", "db"),
        groups=("x", "front", "back"), jump="b", identity="key", become="sudo",
        vars={"disk": "sda", "size": 5},
    )
    assert host(found, "b").address == "b"
    assert [site.name for site in found.sites] == ["east", "west"]
    assert found.ssh_config == "ssh_config"
    assert found.known_hosts == ("known_hosts",)


ANSIBLE_YAML = """
    all:
      vars: {ansible_user: ops, ansible_become: yes, runbook_sites: [east, west]}
      hosts: {bastion: {ansible_host: 192.0.2.9}}
      children:
        web:
          hosts:
            web[01:03]: {ansible_port: 2222}
            web02: {color: blue, ansible_ssh_private_key_file: k2}
          vars: {color: green}
        db: {hosts: {db-a: {site: west, roles: [primary]}}}
        east: {children: {web: }}
"""
ANSIBLE_INI = """
    bastion ansible_host=192.0.2.9

    [web]
    web[01:03] ansible_port=2222    ; all three
    web02 color=blue ansible_ssh_private_key_file="k2"

    [web:vars]
    color = green

    [db]
    db-a site=west roles=primary

    [east:children]
    web

    [all:vars]
    ansible_user=ops
    runbook_sites=east,west
"""


@pytest.mark.parametrize(
    ("name", "text"), [("hosts.yml", ANSIBLE_YAML), ("hosts", ANSIBLE_INI)]
)
def test_ansible_in_both_flavours(tmp_path: Path, name: str, text: str) -> None:
    found = read(tmp_path, name, text.replace("    ; all three", ""))
    assert {one.name for one in found.hosts} == {"bastion", "web01", "web02", "web03", "db-a"}
    assert host(found, "bastion").address == "192.0.2.9"
    web = host(found, "web02")
    assert (web.address, web.port, web.user, web.site) == ("web02", 2222, "ops", "east")
    assert (web.identity, web.vars) == ("k2", {"color": "blue"})
    assert set(web.groups) == {"web", "east"}
    assert web.roles == ("web",)
    assert host(found, "web03").vars == {"color": "green"}
    database = host(found, "db-a")
    assert (database.site, database.roles) == ("west", ("primary",))
    assert {site.name for site in found.sites} == {"east", "west"}


def test_a_nearer_group_wins(tmp_path: Path) -> None:
    found = read(tmp_path, "hosts.ini", """
        [child]
        h
        [parent:children]
        child
        [parent:vars]
        a=parent
        b=parent
        [child:vars]
        a=child
        [all:vars]
        a=all
        b=all
        c=all
    """)
    assert host(found, "h").vars == {"a": "child", "b": "parent", "c": "all"}


def test_deep_chains_of_groups_do_not_exhaust_anything(tmp_path: Path) -> None:
    chain = "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(300))
    found = read(tmp_path, "hosts.ini", chain + "[g300]\nh\n")
    assert len(host(found, "h").groups) == 301


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]), ("a[1:3]", ["a1", "a2", "a3"]), ("a[08:10]x", ["a08x", "a09x", "a10x"]),
        ("a[1:5:2]", ["a1", "a3", "a5"]), ("d[a:c]", ["da", "db", "dc"]),
        ("r[1:2]n[a:b]", ["r1na", "r1nb", "r2na", "r2nb"]),
    ],
)
def test_ranges(pattern: str, names: list[str]) -> None:
    assert expand_range(pattern) == names


@pytest.mark.parametrize(
    "pattern", ["a[3:1]", "a[1:", "a[1:99999999]", "a[a:zz]", "a[1:2:0]", "[1:2]" * 50,
                "a[0:999]b[0:999]"]
)
def test_bad_ranges(pattern: str) -> None:
    with pytest.raises(BadRange):
        expand_range(pattern)


def test_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, "hosts", "#!/bin/sh\necho {}\n")
    assert "dynamic inventories are not run" in caught.value.diagnostics[0].message
