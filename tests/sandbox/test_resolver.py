"""The sandbox's caching resolver: exactly as long as the TTL says, on the run's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dns.message
import dns.query
import dns.rcode
import dns.update
import pytest

from runbook.sandbox.nameserver import AuthoritativeServer
from runbook.sandbox.resolver import CachingResolver
from tests.dns_lab import NEW, OLD, SHOP, HandClock

CDN = """\
$TTL 40
@     IN SOA ns1 hostmaster 1 7200 900 1209600 300
@     IN NS  ns1
ns1   IN A   192.0.2.53
edge  IN CNAME mail.shop.example.
"""


@dataclass
class Lab:
    server: AuthoritativeServer
    resolver: CachingResolver
    clock: HandClock

    def ask(self, name: str, rtype: str = "A") -> dns.message.Message:
        query = dns.message.make_query(name, rtype)
        return dns.query.udp(query, "127.0.0.1", 3, self.resolver.port)

    def addresses(self, name: str) -> list[str]:
        return [str(rdata.address) for rdata in self.ask(name).answer[-1]]

    def update(self, name: str, ttl: int, address: str) -> None:
        message = dns.update.UpdateMessage("shop.example.")
        message.replace(name, ttl, "A", address)
        reply = dns.query.tcp(message, "127.0.0.1", 3, self.server.port)
        assert reply.rcode() == dns.rcode.NOERROR


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock = HandClock()
    server = AuthoritativeServer({"shop.example": SHOP, "cdn.example": CDN}, {}, clock)
    at = ("127.0.0.1", server.start())
    resolver = CachingResolver(
        {"shop.example": at, "cdn.example": [at]}, clock, {"db-east": "10.0.0.5"}, timeout=0.3
    )
    resolver.start()
    yield Lab(server, resolver, clock)
    resolver.stop()
    server.stop()


def test_an_answer_lives_for_its_ttl_and_not_longer(lab: Lab) -> None:
    assert lab.addresses("mail.shop.example") == [OLD]
    lab.update("mail", 60, NEW)
    lab.clock.move(3599.5)
    reply = lab.ask("mail.shop.example")
    assert [str(one.address) for one in reply.answer[0]] == [OLD]
    assert reply.answer[0].ttl == 1
    lab.clock.move(0.5)
    assert lab.addresses("mail.shop.example") == [NEW]


def test_the_ttl_counts_down(lab: Lab) -> None:
    assert lab.ask("mail.shop.example").answer[0].ttl == 3600
    lab.clock.move(1000)
    assert lab.ask("mail.shop.example").answer[0].ttl == 2600


def test_each_link_of_a_chain_has_its_own_ttl(lab: Lab) -> None:
    chain = lab.ask("edge.cdn.example").answer
    assert [one.ttl for one in chain] == [40, 3600]
    lab.update("mail", 60, NEW)
    lab.clock.move(41)
    chain = lab.ask("edge.cdn.example").answer
    assert [one.ttl for one in chain] == [40, 3559]
    assert chain[-1][0].address == OLD


def test_that_there_is_no_such_name_is_kept_too(lab: Lab) -> None:
    assert lab.ask("new.shop.example").rcode() == dns.rcode.NXDOMAIN
    lab.update("new", 60, NEW)
    lab.clock.move(299)
    assert lab.ask("new.shop.example").rcode() == dns.rcode.NXDOMAIN
    lab.clock.move(2)
    assert lab.addresses("new.shop.example") == [NEW]
    nodata = lab.ask("mail.shop.example", "AAAA")
    assert (nodata.rcode(), nodata.answer) == (dns.rcode.NOERROR, [])


def test_while_upstream_is_down_only_the_cache_answers(lab: Lab) -> None:
    assert lab.addresses("mail.shop.example") == [OLD]
    port = lab.server.port
    lab.server.stop()
    assert lab.addresses("mail.shop.example") == [OLD]
    assert lab.ask("other.shop.example").rcode() == dns.rcode.SERVFAIL
    lab.server.start(port)
    assert lab.ask("other.shop.example").rcode() == dns.rcode.NOERROR


def test_static_names_and_unknown_zones(lab: Lab) -> None:
    assert lab.addresses("db-east") == ["10.0.0.5"]
    assert lab.ask("db-east", "AAAA").answer == []
    assert lab.ask("www.elsewhere.example").rcode() == dns.rcode.SERVFAIL


def test_flush_forgets(lab: Lab) -> None:
    lab.addresses("mail.shop.example")
    lab.update("mail", 60, NEW)
    lab.resolver.flush()
    assert lab.addresses("mail.shop.example") == [NEW]
