"""The DNS transport against the sandbox's own authoritative server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt, InvalidInput, NotFound
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, NameServer, RRset, Zone
from runbook.model.endpoints import Endpoints
from runbook.transports.dns import DnsTransport, read_zone_file
from runbook.transports.dns.provider import Outcome, Present
from runbook.transports.dns.rfc2136 import Rfc2136
from runbook.transports.dns.servers import parse_server
from tests.dns_lab import KEY, NEW, OLD, SECRET, SHOP, HandClock, Lab, OneSecret, dns_lab

WWW = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with dns_lab() as made:
        yield made


def to(address: str, ttl: int = 3600) -> RRset:
    return RRset(name="mail.shop.example.", rtype="A", ttl=ttl, rdatas=(address,))


def change(before: RRset | None, after: RRset | None) -> ChangeRecordSet:
    return ChangeRecordSet(zone="shop.example.", changes=(Change(before=before, after=after),))


def test_a_zone_is_read_whole_in_canonical_form(lab: Lab) -> None:
    records = {one.key: one for one in lab.dns.records(lab.zone)}
    assert ("shop.example.", "SOA") not in records
    assert records[("www.shop.example.", "CNAME")].rdatas == ("shop.shop.example.",)
    assert records[("api.shop.example.", "A")].rdatas == ("192.0.2.99", OLD)
    assert records[("shop.example.", "MX")].rdatas == ("10 mail.shop.example.",)
    assert list(records) == sorted(records)
    soa = lab.dns.get(lab.zone, "shop.example.", "SOA")
    assert soa is not None
    assert soa.rdatas[0].split()[2] == "2009091200"


def test_a_change_is_applied_and_read_back(lab: Lab) -> None:
    result = lab.perform(change(WWW, to(NEW)))
    assert result.ok
    assert lab.dns.get(lab.zone, "mail.shop.example", "A") == to(NEW)
    assert f"mail.shop.example. 3600 IN A {NEW}" in lab.primary.snapshot()


def test_the_same_change_twice_is_already_applied(lab: Lab) -> None:
    assert lab.perform(change(WWW, to(NEW))).data["already"] is False
    again = lab.perform(change(WWW, to(NEW)))
    assert again.ok
    assert again.data["already"] is True


def test_drift_is_refused_and_shown(lab: Lab) -> None:
    lab.perform(change(WWW, to("192.0.2.1")))
    result = lab.perform(change(WWW, to(NEW)))
    assert not result.ok
    assert "now 192.0.2.1 (TTL 3600)" in result.detail
    assert f"the plan saw {OLD} (TTL 3600)" in result.detail
    assert lab.dns.get(lab.zone, "mail.shop.example.", "A") == to("192.0.2.1")


def test_another_ttl_alone_is_drift_too(lab: Lab) -> None:
    lab.perform(change(WWW, WWW.with_ttl(60)))
    result = lab.perform(change(WWW, to(NEW)))
    assert not result.ok
    assert "TTL 60" in result.detail


def test_all_changes_of_an_update_or_none(lab: Lab) -> None:
    before = lab.primary.snapshot()
    wrong = RRset(name="other.shop.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
    both = ChangeRecordSet(
        zone="shop.example.",
        changes=(Change(before=WWW, after=to(NEW)), Change(before=wrong, after=None)),
    )
    assert not lab.perform(both).ok
    assert lab.primary.snapshot() == before


def test_many_sets_are_swapped_and_swapped_back_exactly(lab: Lab) -> None:
    before = lab.primary.snapshot()
    sets = [one for one in lab.dns.records(lab.zone) if one.rtype in {"A", "CNAME", "TXT", "HTTPS"}]
    there = ChangeRecordSet(
        zone="shop.example.",
        changes=tuple(Change(before=one, after=one.with_ttl(77)) for one in sets),
    )
    assert lab.perform(there).ok
    assert lab.primary.snapshot() != before
    back = ChangeRecordSet(
        zone="shop.example.", changes=tuple(one.reversed for one in there.changes)
    )
    assert lab.perform(back).ok
    assert lab.primary.snapshot() == before


def test_sets_are_made_and_removed(lab: Lab) -> None:
    new = RRset(name="new.shop.example.", rtype="A", ttl=60, rdatas=(NEW,))
    assert lab.perform(change(None, new)).ok
    assert not lab.perform(change(None, new.with_ttl(5))).ok, "it exists now"
    assert lab.perform(change(new, None)).ok
    assert lab.dns.get(lab.zone, new.name, "A") is None


def test_an_address_becomes_an_alias_in_one_update(lab: Lab) -> None:
    alias = RRset(
        name="mail.shop.example.", rtype="CNAME", ttl=60, rdatas=("shop.shop.example.",)
    )
    swap = ChangeRecordSet(
        zone="shop.example.",
        changes=(Change(before=WWW, after=None), Change(before=None, after=alias)),
    )
    assert lab.perform(swap).ok
    assert lab.dns.get(lab.zone, alias.name, "CNAME") == alias


def test_a_silently_ignored_addition_is_noticed(lab: Lab) -> None:
    beside = RRset(name="www.shop.example.", rtype="A", ttl=60, rdatas=(NEW,))
    result = lab.perform(change(None, beside))
    assert not result.ok
    assert "accepted the update but does not hold it" in result.detail


def test_what_a_wildcard_makes_up_is_no_set_of_its_own(lab: Lab) -> None:
    made_up = lab.dns.ask(lab.dns.servers(lab.zone)[0], "a.tenant.shop.example.", "CNAME")
    assert made_up.ok
    assert lab.dns.get(lab.zone, "a.tenant.shop.example.", "CNAME") is None
    own = RRset(name="a.tenant.shop.example.", rtype="A", ttl=60, rdatas=(NEW,))
    assert lab.perform(change(None, own)).ok


def test_one_of_eight_wins_a_race(lab: Lab) -> None:
    barrier = threading.Barrier(8)

    def try_it(number: int) -> bool:
        barrier.wait(5)
        return lab.perform(change(WWW, to(f"192.0.2.{100 + number}"))).ok

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(try_it, range(8)))
    assert won.count(True) == 1
    assert lab.dns.get(lab.zone, WWW.name, "A") == to(f"192.0.2.{100 + won.index(True)}")


def test_one_of_eight_wins_a_race_over_the_ttl_alone(lab: Lab) -> None:
    """The values never differ: only the SOA prerequisite tells the racers apart."""
    barrier = threading.Barrier(8)

    def try_it(number: int) -> bool:
        barrier.wait(5)
        return lab.perform(change(WWW, WWW.with_ttl(100 + number))).ok

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(try_it, range(8))).count(True) == 1


def test_changes_of_different_sets_do_not_hinder_each_other(lab: Lab) -> None:
    def make(number: int) -> bool:
        name = f"h{number}.shop.example."
        return lab.perform(
            change(None, RRset(name=name, rtype="A", ttl=60, rdatas=(NEW,)))
        ).ok

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(make, range(6)))


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (f"shop-key:hmac-sha256:{SECRET[:-4]}AA==", "BADSIG"),
        (f"no-such-key:hmac-sha256:{SECRET}", "BADKEY"),
        ("rubbish", "is not a TSIG key"),
        (f"shop-key:hmac-rot13:{SECRET}", "is not a TSIG key"),
    ],
)
def test_a_wrong_key_changes_nothing_and_is_never_shown(
    lab: Lab, secret: str, words: str
) -> None:
    before = lab.primary.snapshot()
    with pytest.raises(Errored) as caught:
        lab.with_secret(secret).perform(change(WWW, to(NEW)), KEY)
    assert words in str(caught.value)
    assert SECRET[:-4] not in caught.value.message + caught.value.hint
    assert lab.primary.snapshot() == before


def test_without_a_key_the_zone_is_refused(lab: Lab) -> None:
    unsigned = lab.zone.model_copy(update={"key": None})
    transport = DnsTransport(
        (unsigned,), secrets=OneSecret(), clock=lab.clock, endpoints=lab._endpoints(), timeout=1.0
    )
    with pytest.raises(Errored, match="refuses to transfer"):
        transport.records(unsigned)
    result = transport.perform(change(WWW, to(NEW)), KEY)
    assert not result.ok
    assert "no TSIG signature: REFUSED" in result.detail


def test_a_secondary_takes_no_updates(lab: Lab) -> None:
    zone = lab.zone.model_copy(update={"servers": ("192.0.2.54",)})
    transport = DnsTransport(
        (zone,), secrets=OneSecret(), clock=lab.clock, endpoints=lab._endpoints(), timeout=1.0
    )
    result = transport.perform(change(WWW, to(NEW)), KEY)
    assert not result.ok
    assert "NOTAUTH; it is not the primary" in result.detail


def test_invalid_data_and_foreign_names_are_not_sent(lab: Lab) -> None:
    before = lab.primary.snapshot()
    assert "not valid record data" in lab.perform(change(WWW, to("not-an-address"))).detail
    foreign = RRset(name="www.other.example.", rtype="A", ttl=60, rdatas=(NEW,))
    assert "is not in the zone" in lab.perform(change(None, foreign)).detail
    assert lab.primary.snapshot() == before


def test_the_apex_ns_set_is_replaced(lab: Lab) -> None:
    now = lab.dns.get(lab.zone, "shop.example.", "NS")
    assert now is not None
    new = now.model_copy(update={"rdatas": ("ns2.shop.example.", "ns3.shop.example.")})
    assert lab.perform(change(now, new)).ok
    assert lab.dns.get(lab.zone, "shop.example.", "NS") == new


def test_after_a_crash_the_zone_tells(lab: Lab) -> None:
    action = change(WWW, to(NEW))
    assert lab.dns.resolve_change(action, KEY).outcome == "not_done"
    lab.perform(action)
    done = lab.dns.resolve_change(action, KEY)
    assert done.outcome == "done"
    assert done.result is not None
    assert done.result.ok
    lab.perform(change(to(NEW), to("192.0.2.1")))
    unknown = lab.dns.resolve_change(action, KEY)
    assert unknown.outcome == "unknown"
    assert "now 192.0.2.1" in unknown.detail
    lab.primary.stop()
    assert lab.dns.resolve_change(action, KEY).outcome == "unknown"
    lab.primary.start()


class Cut:
    """A relay before the primary that loses the answers to updates sent over TCP.

    UDP goes through; ``forward``: the update itself reaches the server.
    """

    def __init__(self, port: int, *, forward: bool, then_dead: bool = False) -> None:
        self._port, self._forward, self._then_dead = port, forward, then_dead
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._cut = False
        for work in (self._relay_udp, self._relay_tcp):
            threading.Thread(target=work, daemon=True).start()

    def _relay_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as onward:
            onward.settimeout(2)
            while True:
                try:
                    data, sender = self._udp.recvfrom(65535)
                except OSError:
                    return
                if self._cut and self._then_dead:
                    continue
                onward.sendto(data, ("127.0.0.1", self._port))
                self._udp.sendto(onward.recv(65535), sender)

    def _relay_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            with sock:
                data = sock.recv(65535)
                if self._forward:
                    with socket.create_connection(("127.0.0.1", self._port)) as onward:
                        onward.sendall(data)
                        onward.recv(65535)
                self._cut = True

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


def through(lab: Lab, cut: Cut) -> DnsTransport:
    return DnsTransport(
        (lab.zone,), secrets=OneSecret(), clock=lab.clock, timeout=0.6,
        endpoints=Endpoints(
            dns={"192.0.2.53": f"127.0.0.1:{cut.port}"}, resolver="127.0.0.1:1", clock="c"
        ),
    )


def test_an_unanswered_update_that_took_effect_is_done(lab: Lab) -> None:
    cut = Cut(lab.primary.port, forward=True)
    result = through(lab, cut).perform(change(WWW, to(NEW)), KEY)
    cut.close()
    assert result.ok
    assert "though the server did not say so" in result.detail


def test_an_unanswered_update_without_effect_is_an_error(lab: Lab) -> None:
    cut = Cut(lab.primary.port, forward=False)
    with pytest.raises(Errored, match="the zone is unchanged"):
        through(lab, cut).perform(change(WWW, to(NEW)), KEY)
    cut.close()
    assert lab.dns.get(lab.zone, WWW.name, "A") == WWW


def test_an_unanswered_update_nobody_can_look_after_is_in_doubt(lab: Lab) -> None:
    cut = Cut(lab.primary.port, forward=True, then_dead=True)
    with pytest.raises(InDoubt, match="its outcome is unknown"):
        through(lab, cut).perform(change(WWW, to(NEW)), KEY)
    cut.close()


def test_a_dead_primary_is_an_error(lab: Lab) -> None:
    lab.primary.stop()
    with pytest.raises(Errored, match="no answer"):
        lab.perform(change(WWW, to(NEW)))
    with pytest.raises(Errored, match="could not be asked for the zone"):
        lab.dns.records(lab.zone)
    lab.primary.start()


def test_every_server_is_found_once(lab: Lab) -> None:
    found = lab.dns.servers(lab.zone)
    assert [one.address for one in found] == ["192.0.2.53", "192.0.2.54"]


def test_a_server_without_an_address_is_still_a_server(lab: Lab) -> None:
    zone = lab.zone.model_copy(update={"secondaries": ("ns9.elsewhere.example",)})
    found = lab.dns.servers(zone)[-2:]
    assert "ns9.elsewhere.example" in {one.name for one in found}
    answer = lab.dns.ask(
        NameServer(name="ns9.elsewhere.example", address="ns9.elsewhere.example"), "a.example.", "A"
    )
    assert answer.rcode == "UNREACHABLE"


def test_an_answer_follows_the_chain(lab: Lab) -> None:
    server = lab.dns.servers(lab.zone)[0]
    answer = lab.dns.ask(server, "x.tenant.shop.example.", "A")
    assert answer.ok
    assert answer.authoritative
    assert [link.name for link in answer.chain] == ["x.tenant.shop.example."]
    assert answer.rrset is not None
    assert answer.rrset.name == "shop.shop.example."
    assert lab.dns.ask(server, "none.shop.example.", "A").rcode == "NXDOMAIN"
    nodata = lab.dns.ask(server, "mail.shop.example.", "AAAA")
    assert (nodata.rcode, nodata.rrset) == ("NOERROR", None)


def test_an_answer_too_long_for_udp_comes_by_tcp(lab: Lab) -> None:
    long = RRset(
        name="long.shop.example.", rtype="TXT", ttl=60,
        rdatas=tuple(sorted(f'"{number}{"x" * 200}"' for number in range(30))),
    )
    assert lab.perform(change(None, long)).ok
    assert lab.dns.ask(lab.dns.servers(lab.zone)[0], long.name, "TXT").rrset == long


def test_what_a_sandbox_does_not_hold_is_not_asked(lab: Lab) -> None:
    stranger = NameServer(name="a.root-servers.net.", address="198.41.0.4")
    assert lab.dns.ask(stranger, "example.", "NS").rcode == "UNREACHABLE"
    assert lab.dns.resolve("9.9.9.9", "shop.example.", "A").rcode == "UNREACHABLE"


def test_unknown_zones_and_providers_are_named(lab: Lab) -> None:
    with pytest.raises(NotFound, match="not declared"):
        lab.dns.zone("nope.example")
    with pytest.raises(NotFound, match="no DNS provider 'carrier-pigeon'"):
        lab.dns.caps(Zone(name="shop.example.", provider="carrier-pigeon"))
    assert lab.dns.caps(lab.zone).cas == "server"


def test_a_zone_file_reads_like_the_zone_itself(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "shop.zone"
    file.write_text(SHOP)
    assert read_zone_file(file, "shop.example") == lab.dns.records(lab.zone)
    zone = Zone(name="shop.example.", provider="file", file="shop.zone")
    transport = DnsTransport((zone,), secrets=OneSecret(), clock=HandClock(), directory=tmp_path)
    assert transport.get(zone, "mail.shop.example", "A") == WWW
    assert not transport.perform(change(WWW, to(NEW)), KEY).ok


@pytest.mark.parametrize("text", ["", "@ IN A 192.0.2.1\n", "@ IN SOA a b\n", "$TTL x\n"])
def test_what_is_no_zone_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.zone"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_zone_file(file, "shop.example")
    assert "bad.zone" in caught.value.render()
    with pytest.raises(InvalidInput):
        read_zone_file(tmp_path / "missing.zone", "shop.example")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ns1.example", ("ns1.example", 53)),
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_servers_are_written_in_several_ways(text: str, wanted: tuple[str, int]) -> None:
    assert parse_server(text) == wanted


def test_a_server_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a server"):
        parse_server("ns1:abc")


@pytest.mark.parametrize(("late", "ok"), [(2, True), (99, False)])
def test_a_server_that_shows_a_change_late_is_looked_at_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, late: int, ok: bool
) -> None:
    """BIND with inline-signing says yes first, and signs and shows the new set afterwards."""
    stale = [WWW] * late
    present, apply = Rfc2136.present, Rfc2136.apply
    accepted: list[Outcome] = []

    def applied(self: Rfc2136, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        accepted.append(apply(self, zone, changes))
        return accepted[-1]

    def seen(self: Rfc2136, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        if accepted and stale:
            return {WWW.key: stale.pop()}
        return present(self, zone, keys)

    monkeypatch.setattr(Rfc2136, "apply", applied)
    monkeypatch.setattr(Rfc2136, "present", seen)
    result = lab.perform(change(WWW, to(NEW)))
    assert result.ok is ok
    assert ok or "accepted the update but does not hold it" in result.detail
