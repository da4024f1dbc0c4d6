"""Staging must not reach into production: compared by addresses and host keys, never by names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from runbook.engine.apart import Apart, compare, refuse_touching
from runbook.errors import Errored, InvalidInput, Refused
from runbook.kinds import registry
from runbook.loading import ForStaging, load_runbook
from runbook.model.dns import Zone
from runbook.model.inventory import Inventory
from runbook.model.plan import Plan
from runbook.model.whereabouts import HostKey, HostPlace
from runbook.planning import build_plan
from runbook.planning.mentions import canonical

BOOK = """\
runbook: shop
inventory:
  hosts:
    east-web: {address: east.shop.example, roles: [web]}
    west-web: {address: 192.0.2.2, roles: [web]}
    bastion: {address: 192.0.2.9}
vars: {new: 192.0.2.2, health: "http://www.shop.example/health"}
zones: {shop.example: {servers: [ns1.shop.example]}}
databases: {east: {engine: postgres, host: east-web}}
budgets: {}
staging:
  inventory:
    hosts:
      stage-1: {address: stage.shop.example, roles: [web], jump: hop}
      hop: {address: 192.0.2.9}
  vars: {new: 198.51.100.2, health: "http://stage.shop.example/health"}
  zones: {stage.example: {servers: [ns1.shop.example]}}
  databases: {east: {engine: postgres, host: stage-1}}
steps:
  - {id: note, kind: file, hosts: web, with: {path: note, content: "to {{ new }}"}}
  - {id: ok, kind: http.check, with: {url: "{{ health }}"}}
"""
NAMES = {
    "east.shop.example": ("192.0.2.1", "2001:db8::1"), "stage.shop.example": ("198.51.100.1",),
    "ns1.shop.example": ("192.0.2.53",), "ns2.shop.example": ("192.0.2.54",),
    "www.shop.example": ("192.0.2.1",), "alias.shop.example": ("2001:db8::1",),
}


def key(name: str) -> HostKey:
    return HostKey(kind="ssh-ed25519", fingerprint=f"SHA256:{name}")


class Found:
    """A resolver, host keys and name servers that are made up."""

    def __init__(self, inventory: Inventory, keys: Mapping[str, str]) -> None:
        self._inventory = inventory
        self._keys = keys
        self.dead: frozenset[str] = frozenset()

    def hosts(self, names: Iterable[str]) -> Mapping[str, HostPlace]:
        return {name: self._place(name) for name in names}

    def _place(self, name: str) -> HostPlace:
        host = self._inventory.get(name)
        assert host is not None
        found = HostPlace(host=name, at=f"{host.address}:22")
        if host.jump is not None:
            jump = self._inventory.get(host.jump)
            assert jump is not None
            found = found.model_copy(update={"way": self.addresses(jump.address)})
        try:
            addresses = self.addresses(host.address)
        except Errored as fault:
            return found.model_copy(update={"unknown": fault.message})
        unknown = "no connection" if name in self.dead else ""
        keys = () if unknown else (key(self._keys.get(name, f"{id(self)}-{name}")),)
        return found.model_copy(
            update={"addresses": addresses, "keys": keys, "unknown": unknown}
        )

    def addresses(self, name: str) -> tuple[str, ...]:
        literal = canonical(name)
        if literal is not None:
            return (literal,)
        if name not in NAMES:
            raise Errored(f"{name} cannot be resolved")
        return NAMES[name]

    def changed_at(self, zone: Zone) -> tuple[str, ...]:
        return tuple(a for name in zone.servers for a in self.addresses(name))

    def served_at(self, zone: Zone) -> tuple[str, ...]:
        return (*self.changed_at(zone), "192.0.2.55")


def plans(tmp_path: Path, book: str) -> tuple[Plan, Plan]:
    (tmp_path / "book.yml").write_text(book)
    live, stage = (
        build_plan(load_runbook(tmp_path / "book.yml", kinds=registry(), staging=one),
                   kinds=registry())
        for one in (None, ForStaging())
    )
    return live, stage


def compared(
    tmp_path: Path, *changes: tuple[str, str], keys: Mapping[str, str] | None = None,
    dead: Iterable[str] = (),
) -> Apart:
    book = BOOK
    for before, after in changes:
        assert before in book
        book = book.replace(before, after)
    live, stage = plans(tmp_path, book)
    found = [Found(plan.inventory, keys or {}) for plan in (live, stage)]
    for one in found:
        one.dead = frozenset(dead)
    return compare(live, stage, live=found[0], stage=found[1])


def touching(tmp_path: Path, *changes: tuple[str, str], **more: Mapping[str, str]) -> str:
    found = compared(tmp_path, *changes, **more)
    assert found.unknown == ()
    with pytest.raises(Refused) as caught:
        refuse_touching(found)
    assert "nothing was started" in caught.value.message
    return " | ".join(found.touching)


def test_apart(tmp_path: Path) -> None:
    found = compared(tmp_path)
    assert (found.touching, found.unknown) == ((), ())
    # The bastion of both is only a way.
    assert (found.hosts, found.zones, found.databases, found.shared) == (2, 1, 1, ("hop",))
    refuse_touching(found)


def test_the_same_address_under_another_name(tmp_path: Path) -> None:
    said = touching(tmp_path, ("address: stage.shop.example", "address: alias.shop.example"))
    assert said.startswith(
        "staging's stage-1 (alias.shop.example:22, 2001:db8::1) is production's east-web ")
    assert "it has the same address, 2001:db8::1" in said


def test_the_same_host_key_at_another_address(tmp_path: Path) -> None:
    said = touching(tmp_path, keys={"east-web": "one", "stage-1": "one"})
    assert said == (
        "staging's stage-1 (stage.shop.example:22, 198.51.100.1) is production's east-web "
        "(east.shop.example:22, 192.0.2.1, 2001:db8::1): it shows the same host key, "
        "ssh-ed25519 SHA256:one")


def test_a_private_address_behind_another_jump_host_is_another_machine(tmp_path: Path) -> None:
    same = ("address: east.shop.example", "address: 10.0.0.5, jump: bastion")
    there = ("address: stage.shop.example", "address: 10.0.0.5")
    other = ("hop: {address: 192.0.2.9}", "hop: {address: 198.51.100.9}")
    tunnels = (("host: east-web}", "host: east-web, via: east-web}"),
               ("host: stage-1}", "host: stage-1, via: stage-1}"))
    assert "same address, 10.0.0.5" in touching(tmp_path, same, there, *tunnels)
    # The host keys are different, and with them the databases of the hosts.
    assert compared(tmp_path, same, there, other, *tunnels).touching == ()
    # Reached from here, one address is one server.
    assert "database east is production's east: 10.0.0.5" in touching(
        tmp_path, same, there, other)


def test_a_way_on_which_something_is_done_is_none(tmp_path: Path) -> None:
    said = touching(tmp_path, ("hosts: web,", "hosts: all,"))
    assert said.startswith("staging's hop (192.0.2.9:22) is production's bastion")


def test_what_cannot_be_found_out_is_refused(tmp_path: Path) -> None:
    found = compared(tmp_path, ("address: east.shop.example", "address: gone.shop.example"),
                     dead=["stage-1"])
    assert found.touching == ()
    assert found.unknown == (
        "production's east-web (gone.shop.example:22): gone.shop.example cannot be resolved",
        "staging's stage-1 (stage.shop.example:22, 198.51.100.1): no connection",
        "production's database east: gone.shop.example cannot be resolved",
    )
    with pytest.raises(Refused, match="nobody can tell whether staging is apart"):
        refuse_touching(found)
    # On the way back a host that is down keeps no other from being put back.
    refuse_touching(found, unknown=False)


# -- zones -------------------------------------------------------------------------------------


def test_a_zone_of_the_same_name_at_a_server_of_production(tmp_path: Path) -> None:
    said = touching(tmp_path, ("{stage.example: {servers: [ns1.", "{shop.example: {servers: [ns1."))
    assert said == ("staging's zone shop.example. and production's shop.example. have one name, "
                    "and changes would go to a server of production: 192.0.2.53")


def test_a_secondary_of_production_is_no_server_of_staging(tmp_path: Path) -> None:
    zone = "{stage.example: {servers: [ns1.shop.example]}}"
    assert "192.0.2.55" in touching(
        tmp_path, (zone, "{shop.example: {servers: [192.0.2.55]}}"))
    found = compared(tmp_path, (zone, "{shop.example: {servers: [ns2.shop.example]}}"))
    assert found.touching == ()


ROUTE53 = (
    ("zones: {shop.example: {servers: [ns1.shop.example]}}",
     "zones: {shop.example: {provider: route53, zone_id: Z1}}"),
)


@pytest.mark.parametrize(("zone", "touches", "unknown"), [
    ("{shop.example: {provider: route53, zone_id: /hostedzone/Z1}}", "route53 has it as Z1", ""),
    ("{stage.example: {provider: route53, zone_id: Z1}}", "route53 has it as Z1", ""),
    ("{shop.example: {provider: route53, zone_id: Z2}}", "", ""),
    ("{stage.example: {provider: route53}}", "", ""),
    ("{shop.example: {provider: route53}}", "", "write the `zone_id` of both"),
    ("{shop.example: {servers: [198.51.100.53]}}", "", ""),
    ("{shop.example: {provider: octodns, class: a.B}}", "", "a name of its own"),
], ids=str)
def test_zones_of_an_account_are_told_by_their_id(
    tmp_path: Path, zone: str, touches: str, unknown: str
) -> None:
    found = compared(
        tmp_path, *ROUTE53, ("  zones: {stage.example: {servers: [ns1.shop.example]}}",
                             f"  zones: {zone}"))
    assert [touches in one for one in found.touching] == ([True] if touches else [])
    assert [unknown in one for one in found.unknown] == ([True] if unknown else [])


# -- databases ---------------------------------------------------------------------------------


def test_a_database_at_the_address_and_port_of_production_s(tmp_path: Path) -> None:
    own = "  databases: {east: {engine: postgres, host: stage-1"
    said = touching(tmp_path, (own, f"{own}, address: east.shop.example"))
    assert said.startswith(
        "staging's database east is production's east: 192.0.2.1, 2001:db8::1 port 5432")
    other_port = compared(tmp_path, (own, f"{own}, address: 2001:db8::1, port: 5433"))
    assert other_port.touching == ()


def test_a_database_through_a_tunnel(tmp_path: Path) -> None:
    own = "  databases: {east: {engine: postgres, host: stage-1"
    # From a bastion that both share to production's server.
    assert "is production's east: 192.0.2.1" in touching(
        tmp_path, (own, f"{own}, via: hop, address: 192.0.2.1"))
    # On the machine itself that the tunnel begins on: then it is no mere way.
    said = touching(tmp_path, (own, f"{own}, via: hop, address: 127.0.0.1"))
    assert "staging's hop (192.0.2.9:22) is production's bastion" in said


# -- what steps name ---------------------------------------------------------------------------


def test_a_variable_that_nobody_has_replaced(tmp_path: Path) -> None:
    said = touching(tmp_path, ("  vars: {new: 198.51.100.2, ", "  vars: {"))
    assert said == "step note (book.yml:20) names 192.0.2.2, which is production's west-web"


def test_a_url_that_leads_into_production_from_here(tmp_path: Path) -> None:
    said = touching(tmp_path, (', health: "http://stage.shop.example/health"}', "}"))
    assert said == ("step ok (book.yml:21) asks www.shop.example, which leads from here to "
                    "192.0.2.1, which is production's east-web")
    # Asked from a machine of staging, it leads where staging's resolver says.
    assert compared(tmp_path, (', health: "http://stage.shop.example/health"}', "}"),
                    ('url: "{{ health }}"', 'url: "{{ health }}", via: "{{ seen_from }}"'),
                    ("vars: {new: 192", "vars: {seen_from: east-web, new: 192"),
                    ("vars: {new: 198", "vars: {seen_from: stage-1, new: 198")).touching == ()


def test_a_server_that_is_asked_by_its_name(tmp_path: Path) -> None:
    said = touching(tmp_path, ('kind: http.check, with: {url: "{{ health }}"}',
                               "kind: tcp.check, with: {host: www.shop.example, port: 80}"))
    assert said == ("step ok (book.yml:21) asks www.shop.example, which leads from here to "
                    "192.0.2.1, which is production's east-web")


def test_a_probe_of_a_budget_asks_too(tmp_path: Path) -> None:
    said = touching(tmp_path, ("budgets: {}", "budgets: {out: {limit: 1m, probe: "
                               "{http: 'http://east.shop.example/order', method: POST}}}"))
    assert "the probe of budget out names east.shop.example, which is production's" in said
    assert "the probe of budget out asks east.shop.example, which leads from here to" in said


def test_a_host_of_production_that_a_step_names(tmp_path: Path) -> None:
    said = touching(tmp_path, ("to {{ new }}", "west-web"))
    assert said == ("step note (book.yml:20) names west-web, a host of production that staging "
                    "does not have (192.0.2.2)")
    # A key that names a host has to name one of staging's.
    with pytest.raises(InvalidInput):
        compared(tmp_path, ('url: "{{ health }}"', 'url: "{{ health }}", via: west-web'))


def test_addresses_in_every_text_of_a_step(tmp_path: Path) -> None:
    for text in ("rsync web@192.0.2.2:/srv .", "host=192.0.2.2 user=x", "http://192.0.2.2/",
                 "telnet://192.0.2.2:25", "[2001:DB8:0::1]:53", "see EAST.shop.example."):
        said = touching(tmp_path, ("to {{ new }}", f"to {text}"))
        assert said.startswith("step note (book.yml:20) names "), text
    for text in ("192.0.2.20", "1192.0.2.2", "192.0.2.2.1", "20:15:30", "not-east.shop.example",
                 "east.shop.example.org"):
        assert compared(tmp_path, ("to {{ new }}", f"to {text}")).touching == (), text
