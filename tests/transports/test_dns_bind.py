"""The DNS transport and kinds against BIND itself, as an ordinary process on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored
from runbook.kinds.dns_flip import DnsFlip
from runbook.kinds.dns_ttl import DnsTtl
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, RRset, Zone
from runbook.model.endpoints import Endpoints
from runbook.transports.dns import DnsTransport
from tests.dns_lab import KEY, NEW, NEW6, OLD, OLD6, SECRET, SHOP, HandClock, OneSecret

NAMED = shutil.which("named") or shutil.which("named", path="/usr/sbin")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(NAMED is None, reason="BIND's named is not installed (package bind9)"),
]

MAIL = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))


def config(folder: Path, port: int) -> str:
    return f"""
key "shop-key" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
key "reader" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
controls {{ }};
options {{
  directory "{folder}"; pid-file none; session-keyfile none; managed-keys-directory "{folder}";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify no;
}};
zone "shop.example" {{
  type primary; file "shop.zone";
  allow-update {{ key shop-key; }}; allow-transfer {{ key shop-key; key reader; }};
}};
zone "policy.example" {{
  type primary; file "policy.zone"; allow-transfer {{ key shop-key; }};
  update-policy {{ grant shop-key name mail.policy.example. A; }};
}};
"""


def free_port() -> int:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return int(tcp.getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    assert NAMED is not None
    folder, number = tmp_path_factory.mktemp("bind"), free_port()
    (folder / "shop.zone").write_text(SHOP)
    (folder / "policy.zone").write_text(SHOP)
    (folder / "named.conf").write_text(config(folder, number))
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [NAMED, "-g", "-n", "1", "-c", str(folder / "named.conf")], stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + 15
        # Its first line says "running as", before it listens.
        while not any(line.endswith(" running") for line in log.read_text().splitlines()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            threading.Event().wait(0.05)
        yield number
    finally:
        process.terminate()
        process.wait(10)


class BindReads:
    """The part of Reads that DNS kinds use."""

    def __init__(self, dns: DnsTransport) -> None:
        self.dns = dns

    def now(self) -> float:
        return time.time()


def transport(port: int, secret: str | None = None) -> DnsTransport:
    table = dict.fromkeys(("192.0.2.53", "192.0.2.54"), f"127.0.0.1:{port}")
    return DnsTransport(
        tuple(Zone(name=name, servers=("192.0.2.53",), key="tsig")
              for name in ("shop.example.", "policy.example.")),
        secrets=OneSecret(secret) if secret else OneSecret(), clock=HandClock(time.time()),
        endpoints=Endpoints(dns=table, resolver="127.0.0.1:1", clock="c"), timeout=3.0,
    )


@pytest.fixture
def dns(port: int) -> Iterator[DnsTransport]:
    """The zone is put back after each test."""
    made = transport(port)
    zone = made.zone("shop.example")
    before = {one.key: one for one in made.records(zone)}
    yield made
    after = {one.key: one for one in made.records(zone)}
    changes = tuple(
        Change(before=after.get(key), after=before.get(key))
        for key in sorted(before.keys() | after.keys())
        if after.get(key) != before.get(key)
    )
    if changes:
        result = made.perform(ChangeRecordSet(zone="shop.example.", changes=changes), KEY)
        assert result.ok, result.detail
    assert {one.key: one for one in made.records(zone)} == before


def to(address: str, ttl: int = 3600) -> RRset:
    return MAIL.model_copy(update={"rdatas": (address,), "ttl": ttl})


def change(before: RRset | None, after: RRset | None) -> ChangeRecordSet:
    return ChangeRecordSet(zone="shop.example.", changes=(Change(before=before, after=after),))


def test_changes_drift_and_repeats(dns: DnsTransport) -> None:
    assert dns.perform(change(MAIL, to(NEW, 60)), KEY).ok
    assert dns.perform(change(MAIL, to(NEW, 60)), KEY).data == {"already": True}
    drift = dns.perform(change(MAIL, to("192.0.2.1")), KEY)
    assert not drift.ok
    assert f"now {NEW} (TTL 60), the plan saw {OLD} (TTL 3600)" in drift.detail
    ttl_only = dns.perform(change(to(NEW, 61), to("192.0.2.1")), KEY)
    assert not ttl_only.ok


@pytest.mark.parametrize("what", ["address", "TTL"])
def test_one_of_eight_wins(dns: DnsTransport, what: str) -> None:
    barrier = threading.Barrier(8)

    def try_it(number: int) -> bool:
        barrier.wait(5)
        mine = to(f"192.0.2.{100 + number}") if what == "address" else to(OLD, 100 + number)
        return dns.perform(change(MAIL, mine), KEY).ok

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(try_it, range(8)))
    assert won.count(True) == 1


def test_alias_for_address_and_ignored_additions(dns: DnsTransport) -> None:
    alias = RRset(name="other.shop.example.", rtype="CNAME", ttl=60, rdatas=(MAIL.name,))
    was = dns.get(dns.zone("shop.example"), alias.name, "A")
    swap = ChangeRecordSet(
        zone="shop.example.",
        changes=(Change(before=was, after=None), Change(before=None, after=alias)),
    )
    assert dns.perform(swap, KEY).ok
    beside = RRset(name=alias.name, rtype="A", ttl=60, rdatas=(NEW,))
    result = dns.perform(change(None, beside), KEY)
    assert not result.ok
    assert "does not hold it" in result.detail


def test_the_apex_ns_set(dns: DnsTransport) -> None:
    now = dns.get(dns.zone("shop.example"), "shop.example.", "NS")
    assert now is not None
    new = now.model_copy(update={"rdatas": ("ns2.shop.example.",), "ttl": 60})
    assert dns.perform(change(now, new), KEY).ok


def test_a_wrong_key_is_told_apart(port: int, dns: DnsTransport) -> None:
    bad = transport(port, "shop-key:hmac-sha256:d3JvbmctMDEyMzQ1Njc4OTAxMjM0NTY3ODk=")
    with pytest.raises(Errored, match="BADSIG"):
        bad.perform(change(MAIL, to(NEW)), KEY)
    unknown = transport(port, f"nobody:hmac-sha256:{SECRET}")
    with pytest.raises(Errored, match="BADKEY"):
        unknown.records(unknown.zone("shop.example"))


def serial(dns: DnsTransport) -> str:
    soa = dns.get(dns.zone("shop.example"), "shop.example.", "SOA")
    assert soa is not None
    return soa.rdatas[0].split()[2]


def test_the_right_to_change_is_proven_and_nothing_changes(
    port: int, dns: DnsTransport
) -> None:
    """Every set of the zone: moved, retimed, removed; and one that is not there yet."""
    zone = dns.zone("shop.example")
    before, stood = dns.records(zone), serial(dns)
    movable = [one for one in before if one.rtype != "SOA"]
    assert {one.rtype for one in movable} >= {"A", "AAAA", "CNAME", "HTTPS", "MX", "NS", "SRV",
                                              "TXT"}
    for wanted in (
        [Change(before=one, after=one.with_ttl(one.ttl + 1)) for one in movable],
        [Change(before=one, after=None) for one in movable],
        [Change(before=MAIL, after=to(NEW, 60))],
        [Change(before=None, after=MAIL.model_copy(update={"name": "new.shop.example."}))],
    ):
        right = dns.update_right(zone, tuple(wanted))
        assert right.may is True, right
    assert serial(dns) == stood
    assert dns.records(zone) == before
    # A set that is not as it was read: it is told, and still nothing is changed.
    stale = dns.update_right(zone, (Change(before=to(NEW), after=MAIL),))
    assert stale.may is None and "NXRRSET" in stale.seen
    assert (serial(dns), dns.records(zone)) == (stood, before)


@pytest.mark.parametrize(("secret", "said"), [
    (f"reader:hmac-sha256:{SECRET}", "REFUSED"),
    ("shop-key:hmac-sha256:d3JvbmctMDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "BADSIG"),
    (f"nobody:hmac-sha256:{SECRET}", "BADKEY"),
])
def test_a_key_without_the_right_and_a_wrong_one_are_told_apart(
    port: int, dns: DnsTransport, secret: str, said: str
) -> None:
    bad, stood = transport(port, secret), serial(dns)
    right = bad.update_right(bad.zone("shop.example"), (Change(before=MAIL, after=to(NEW)),))
    assert right.may is False and said in right.seen and right.hint
    assert serial(dns) == stood


def test_a_right_to_some_names_only_says_which_are_missing(dns: DnsTransport) -> None:
    zone = dns.zone("policy.example")
    sets = {one.key: one for one in dns.records(zone)}
    mail, other = (sets[(f"{name}.policy.example.", "A")] for name in ("mail", "other"))
    flips = [Change(before=one, after=one.model_copy(update={"rdatas": (NEW,)}))
             for one in (mail, other)]
    assert dns.update_right(zone, tuple(flips[:1])).may is True
    right = dns.update_right(zone, tuple(flips))
    assert right.may is False
    assert "(for other.policy.example. A)" in right.seen


def test_lower_flip_and_back(dns: DnsTransport) -> None:
    reads = BindReads(dns)
    zone = dns.zone("shop.example")
    start = dns.records(zone)
    lower = DnsTtl(zone="shop.example", points_at=(OLD, OLD6), ttl=60)
    flip = DnsFlip.model_validate(
        {"zone": "shop.example", "from": [OLD, OLD6], "to": [NEW, NEW6]}
    )
    befores = []
    for kind in (lower, flip):
        before = kind.observe(reads)  # type: ignore[arg-type]
        for action in kind.plan(before).actions:
            assert isinstance(action, ChangeRecordSet)
            result = dns.perform(action, KEY)
            assert result.ok, result.detail
        verdict = kind.verify(before, kind.observe(reads))  # type: ignore[arg-type]
        assert verdict.ok, verdict.seen
        befores.append(before)
    assert OLD not in str(dns.records(zone))
    for kind, before in ((flip, befores[1]), (lower, befores[0])):
        actions = kind.undo(before)
        assert isinstance(actions, tuple)
        for action in actions:
            assert isinstance(action, ChangeRecordSet)
            assert dns.perform(action, KEY).ok
    assert dns.records(zone) == start
