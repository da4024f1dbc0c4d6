"""What a zone holds and no server gives."""

from __future__ import annotations

from runbook.model.dns import RRset, zone_name, zone_origin
from runbook.model.dns_occluded import split_occluded


def one(name: str, rtype: str, *rdatas: str) -> RRset:
    return RRset(name=name, rtype=rtype, ttl=1, rdatas=rdatas or ("192.0.2.1",))


GIVEN = (
    one("a.", "NS", "ns.a."), one("a.", "A"), one("ns.a.", "A"), one("x.a.", "A"),
    one("sub.a.", "NS", "ns.sub.a.", "ns.deep.sub.a.", "ns.a."), one("sub.a.", "DS", "1 13 2 00"),
    one("ns.sub.a.", "A"), one("ns.sub.a.", "AAAA", "2001:db8::1"), one("ns.deep.sub.a.", "A"),
    one("d.a.", "DNAME", "x.a."), one("d.a.", "A"), one("dd.a.", "A"),
)
OCCLUDED = (
    one("sub.a.", "A"), one("www.sub.a.", "A"), one("ns.sub.a.", "TXT", '"x"'),
    one("deep.sub.a.", "NS", "other.deep.sub.a."), one("other.deep.sub.a.", "A"),
    one("w.d.a.", "A"),
)


def test_below_a_delegation_only_glue_is_given_and_below_a_dname_nothing() -> None:
    assert split_occluded((*GIVEN, *OCCLUDED), "a.") == (GIVEN, OCCLUDED)


def test_what_a_zone_is_called() -> None:
    assert [zone_name(text) for text in ("Shop.Example", "shop.example.", "Shop.Example.@In")] == [
        "shop.example.", "shop.example.", "shop.example@in"
    ]
    assert zone_origin("Shop.Example@In") == zone_origin("shop.example.") == "shop.example."
