"""Zones that have an API in production, in a sandbox: its own name server stands for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.kinds.dns_flip import DnsFlip
from runbook.kinds.dns_ttl import DnsTtl
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import PROVIDERS, Change, Zone
from runbook.model.endpoints import Endpoints
from runbook.model.plan import Plan
from runbook.sandbox.handle import start_world
from runbook.transports.dns import DnsTransport
from tests.dns_lab import (
    KEY,
    NEW,
    NEW6,
    OLD,
    OLD6,
    SHOP,
    TSIG,
    HandClock,
    OneSecret,
    dns_lab,
    endpoints,
)

APIS = sorted(set(PROVIDERS) - {"rfc2136", "file"})
NOWHERE = "http://192.0.2.254:1"
"""An API of which a single request would fail the test."""


class NoSecrets:
    """Production's secrets; a rehearsal asks for none of them."""

    def value(self, name: str) -> str:
        raise AssertionError(f"the rehearsal asked for the secret {name}")


def api_zone(provider: str, name: str = "shop.example.", **more: object) -> Zone:
    return Zone.model_validate(
        {"name": name, "provider": provider, "endpoint": NOWHERE, "key": "token", **more}
    )


@pytest.mark.parametrize("provider", APIS)
def test_a_zone_with_an_api_is_lowered_flipped_and_put_back(provider: str) -> None:
    with dns_lab() as lab:
        table = endpoints(lab.primary.port, lab.secondary.port)
        zone = api_zone(provider, servers=("192.0.2.53",))
        lab.transport = DnsTransport(
            (zone,), secrets=NoSecrets(), clock=lab.clock, timeout=1.0,
            endpoints=table.model_copy(update={"tsig": {zone.name: TSIG}}),
        )
        before = lab.primary.snapshot()
        done = []
        for kind in (
            DnsTtl(zone="shop.example", points_at=(OLD, OLD6), ttl=60),
            DnsFlip.model_validate(
                {"zone": "shop.example", "from": [OLD, OLD6], "to": [NEW, NEW6]}
            ),
        ):
            was, after, verdict = lab.do(kind)
            assert verdict.ok, verdict.seen
            assert was.evidence["provider"]["cas"] == PROVIDERS[provider].cas
            done.append((kind, was, after))
        assert OLD not in lab.primary.snapshot()
        for kind, was, after in reversed(done):
            lab.undo(kind, was, after)
        assert lab.primary.snapshot() == before


def plan_of(*zones: Zone) -> Plan:
    return Plan(runbook="apis", zones=zones)


def written(tmp_path: Path, *names: str, secrets: str = "{}") -> Path:
    (tmp_path / "zone").write_text(SHOP)
    config = tmp_path / "sandbox.yml"
    config.write_text(
        f"zones: {{{', '.join(f'{name}: zone' for name in names)}}}\nsecrets: {secrets}\n"
    )
    return config


def changed(table: Endpoints, zone: Zone, secret: str | None) -> bool:
    transport = DnsTransport(
        (zone,), secrets=NoSecrets() if secret is None else OneSecret(secret),
        clock=HandClock(), endpoints=table, timeout=2.0,
    )
    assert transport.servers(zone), "found without being told in `servers:`"
    mail = transport.get(zone, f"mail.{zone.name}", "A")
    assert mail is not None
    action = ChangeRecordSet(
        zone=zone.name,
        changes=(Change(before=mail, after=mail.model_copy(update={"rdatas": (NEW,)})),),
    )
    return transport.perform(action, KEY).ok


def test_a_world_serves_every_provider_side_by_side(tmp_path: Path) -> None:
    zones = (
        Zone(name="own.example.", key="tsig", servers=("192.0.2.1",)),
        api_zone("cloudflare", "cloud.example."), api_zone("route53", "aws.example."),
        api_zone("powerdns", "pdns.example."),
    )
    names = [zone.name for zone in zones]
    config = written(tmp_path, *names, secrets=f'{{tsig: "{TSIG}", token: made-up}}')
    world = start_world(plan_of(*zones), config, tmp_path / "w")
    try:
        for zone in zones:
            own = zone.provider == "rfc2136"
            assert changed(world.endpoints, zone, TSIG if own else None), zone
    finally:
        world.stop()


def test_a_world_of_one_api_zone_wants_no_key(tmp_path: Path) -> None:
    zone = api_zone("cloudflare")
    world = start_world(plan_of(zone), written(tmp_path, zone.name), tmp_path / "w")
    try:
        assert changed(world.endpoints, zone, None)
    finally:
        world.stop()
