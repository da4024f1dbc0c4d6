"""One contract over every DNS provider: what a change of a zone may rely on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored, InDoubt
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, RRset
from tests.dns_lab import KEY, NEW, OLD
from tests.transports.dns_backends import BACKENDS, NAMED, PDNS, Backend

MAIL = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))

_BIND = pytest.mark.skipif(NAMED is None, reason="BIND is not installed (package bind9)")
LAB = {
    "bind": _BIND,
    "octodns": _BIND,
    "real-powerdns": pytest.mark.skipif(
        PDNS is None,
        reason="PowerDNS is not installed (packages pdns-server, pdns-backend-sqlite3)",
    ),
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.lab, LAB[name]] if name in LAB else ())
        for name in BACKENDS
    ]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as found:  # type: ignore[attr-defined]
        yield found


def to(address: str, ttl: int = 3600) -> RRset:
    return MAIL.model_copy(update={"rdatas": (address,), "ttl": ttl})


def all_of(backend: Backend) -> tuple[RRset, ...]:
    return backend.dns.records(backend.zone)


def test_the_zone_is_read_whole_in_canonical_form(backend: Backend) -> None:
    assert all_of(backend) == backend.records


def test_one_set_is_read_and_a_wildcard_makes_none_up(backend: Backend) -> None:
    assert backend.get("mail.shop.example", "A") == MAIL
    assert backend.get("mail.shop.example", "AAAA") is None
    assert backend.get("nobody.shop.example", "A") is None
    assert backend.get("x.tenant.shop.example", "CNAME") is None
    wild = backend.get("*.tenant.shop.example", "CNAME")
    assert wild is not None
    assert wild.rdatas == ("shop.shop.example.",)


def test_a_change_is_applied_read_back_and_touches_nothing_else(backend: Backend) -> None:
    result = backend.perform(Change(before=MAIL, after=to(NEW, 120)))
    assert result.ok, result.detail
    assert result.data == {"already": False, "clamped": {}}
    assert all_of(backend) == tuple(
        to(NEW, 120) if one == MAIL else one for one in backend.records
    )


def test_the_same_change_twice_is_already_applied(backend: Backend) -> None:
    change = Change(before=MAIL, after=to(NEW))
    assert backend.perform(change).data["already"] is False
    again = backend.perform(change)
    assert again.ok
    assert again.data["already"] is True


@pytest.mark.parametrize("other", [to("192.0.2.1"), to(OLD, 600)], ids=["address", "ttl"])
def test_drift_is_refused_and_shown(backend: Backend, other: RRset) -> None:
    assert backend.perform(Change(before=MAIL, after=other)).ok
    result = backend.perform(Change(before=MAIL, after=to(NEW)))
    assert not result.ok
    assert f"now {other.rdatas[0]} (TTL {other.ttl})" in result.detail
    assert f"the plan saw {OLD} (TTL 3600)" in result.detail
    assert backend.get(MAIL.name, "A") == other


def test_all_changes_or_none(backend: Backend) -> None:
    wrong = RRset(name="other.shop.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
    result = backend.perform(
        Change(before=MAIL, after=to(NEW)), Change(before=wrong, after=None)
    )
    assert not result.ok
    assert all_of(backend) == backend.records


def test_what_the_provider_refuses_undoes_the_rest(backend: Backend) -> None:
    """An address beside an alias is refused, or swallowed without a word; it is noticed."""
    beside = RRset(name="www.shop.example.", rtype="A", ttl=300, rdatas=(NEW,))
    result = backend.perform(Change(before=None, after=beside))
    assert not result.ok, result.detail
    assert all_of(backend) == backend.records


def test_every_set_is_retimed_and_put_back_exactly(backend: Backend) -> None:
    sets = [one for one in backend.records if one.key != ("shop.example.", "NS")]
    assert {"A", "AAAA", "CNAME", "HTTPS", "MX", "SRV", "TXT"} <= {one.rtype for one in sets}
    there = [Change(before=one, after=one.with_ttl(777)) for one in sets]
    result = backend.perform(*there)
    assert result.ok, result.detail
    assert {one.ttl for one in all_of(backend) if one.key != ("shop.example.", "NS")} == {777}
    result = backend.perform(*(change.reversed for change in there))
    assert result.ok, result.detail
    assert all_of(backend) == backend.records


def test_every_set_is_removed_and_made_again(backend: Backend) -> None:
    """Nothing of a set is lost on the way: it is written from its canonical form alone."""
    sets = [
        one for one in backend.records
        if one.key != ("shop.example.", "NS") and not one.name.startswith("ns")
    ]
    gone = [Change(before=one, after=None) for one in sets]
    result = backend.perform(*gone)
    assert result.ok, result.detail
    assert backend.get(MAIL.name, "A") is None
    result = backend.perform(*(change.reversed for change in gone))
    assert result.ok, result.detail
    assert all_of(backend) == backend.records


def test_new_data_of_several_kinds(backend: Backend) -> None:
    def wanted(name: str, rtype: str, *rdatas: str) -> RRset:
        return RRset(
            name=f"{name}.shop.example.", rtype=rtype, ttl=300, rdatas=tuple(sorted(rdatas))
        )

    sets = [
        wanted("n1", "TXT", f'"{"x" * 255}" "{"y" * 30}"', backend.text),
        wanted("n2", "HTTPS", '1 . alpn="h2,h3" ipv4hint="203.0.113.10"'),
        wanted("n3", "SRV", "0 1 143 mail.shop.example.", "5 1 143 other.shop.example."),
        wanted("n4", "CAA", '0 issue "ca.example"', '0 iodef "mailto:ca@shop.example"'),
        wanted("n5", "MX", "10 mail.shop.example.", "20 other.shop.example."),
        wanted("n6", "AAAA", "2001:db8::1", "2001:db8::2"),
    ]
    result = backend.perform(*(Change(before=None, after=one) for one in sets))
    assert result.ok, result.detail
    assert [backend.get(*one.key) for one in sets] == sets


def test_several_values_lose_and_gain_one(backend: Backend) -> None:
    api = next(one for one in backend.records if one.name == "api.shop.example.")
    assert len(api.rdatas) == 2
    less = api.model_copy(update={"rdatas": ("192.0.2.99",)})
    more = api.model_copy(update={"rdatas": ("192.0.2.98", "192.0.2.99", NEW)})
    for before, after in ((api, less), (less, more), (more, api)):
        result = backend.perform(Change(before=before, after=after))
        assert result.ok, result.detail
        assert backend.get(*api.key) == after


def test_sets_are_made_and_removed(backend: Backend) -> None:
    new = RRset(name="new.shop.example.", rtype="A", ttl=300, rdatas=(NEW,))
    assert backend.perform(Change(before=None, after=new)).ok
    assert not backend.perform(Change(before=None, after=new.with_ttl(600))).ok, "it exists now"
    assert backend.perform(Change(before=new, after=None)).ok
    assert backend.get(new.name, "A") is None
    assert all_of(backend) == backend.records


def test_an_address_becomes_an_alias_in_one_update(backend: Backend) -> None:
    alias = RRset(name=MAIL.name, rtype="CNAME", ttl=300, rdatas=("shop.shop.example.",))
    swap = (Change(before=None, after=alias), Change(before=MAIL, after=None))
    result = backend.perform(*swap)
    assert result.ok, result.detail
    assert backend.get(*alias.key) == alias
    assert backend.perform(*(change.reversed for change in swap)).ok
    assert all_of(backend) == backend.records


def test_the_soa_and_foreign_names_are_not_sent(backend: Backend) -> None:
    foreign = RRset(name="www.other.example.", rtype="A", ttl=300, rdatas=(NEW,))
    assert "is not in the zone" in backend.perform(Change(before=None, after=foreign)).detail
    soa = RRset(
        name="shop.example.", rtype="SOA", ttl=1,
        rdatas=("ns1.shop.example. hostmaster.shop.example. 1 1 1 1 1",),
    )
    assert "the SOA is" in backend.perform(Change(before=None, after=soa)).detail
    assert "not valid record data" in backend.perform(Change(before=MAIL, after=to("x"))).detail


def test_a_server_that_swaps_has_one_winner(backend: Backend) -> None:
    """Where the provider only lets us read first, the promise is smaller, and is told."""
    if backend.caps.cas != "server":
        assert "read again right before" in backend.zone.caution
        assert backend.caps.cas == "read-check"
        return
    assert not backend.zone.caution
    barrier = threading.Barrier(6)

    def try_it(number: int) -> bool:
        barrier.wait(5)
        return backend.perform(Change(before=MAIL, after=MAIL.with_ttl(100 + number))).ok

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(try_it, range(6))).count(True) == 1


def test_after_a_crash_the_zone_tells(backend: Backend) -> None:
    change = Change(before=MAIL, after=to(NEW))
    action = ChangeRecordSet(zone="shop.example.", changes=(change,))
    assert backend.dns.resolve_change(action, KEY).outcome == "not_done"
    assert backend.perform(change).ok
    assert backend.dns.resolve_change(action, KEY).outcome == "done"
    assert backend.perform(Change(before=to(NEW), after=to("192.0.2.1"))).ok
    assert backend.dns.resolve_change(action, KEY).outcome == "unknown"


WRONG = {
    "rfc2136": "shop-key:hmac-sha256:d3JvbmctMDEyMzQ1Njc4OTAxMjM0NTY3ODk=",
    "powerdns": "wrong-key-0123456789",
    "cloudflare": "wrong-key-0123456789",
    "route53": "AKIAWRONG:wrong-key-0123456789",
    "octodns": "d3JvbmctMDEyMzQ1Njc4OTAxMjM0NTY3ODk=",
}


def test_the_right_to_change_is_asked_without_a_change(backend: Backend) -> None:
    """Proven where the protocol lets it; of an API only that our key reads, and a wrong one not."""
    flip = (Change(before=MAIL, after=to(NEW)),)
    right = backend.dns.update_right(backend.zone, flip)
    assert right.may is (True if backend.zone.provider == "rfc2136" else None), right
    stranger = backend.transport(WRONG[backend.zone.provider])
    if backend.zone.provider == "octodns":
        with pytest.raises(Errored):  # its errors are the provider's own
            stranger.update_right(backend.zone, flip)
    else:
        assert stranger.update_right(backend.zone, flip).may is False
    assert all_of(backend) == backend.records
    if backend.double is not None:
        assert backend.double.changes() == 0


def test_a_wrong_key_changes_nothing_and_is_never_shown(backend: Backend) -> None:
    wrong = WRONG[backend.zone.provider]
    stranger = backend.transport(wrong)
    action = ChangeRecordSet(zone="shop.example.", changes=(Change(before=MAIL, after=to(NEW)),))
    for attempt in (
        lambda: stranger.records(backend.zone), lambda: stranger.perform(action, KEY),
    ):
        with pytest.raises(Errored, match="nothing was changed") as caught:
            attempt()
        assert wrong.rpartition(":")[2] not in caught.value.message + caught.value.hint
    assert all_of(backend) == backend.records


# What goes wrong on the way can be made to happen in a double only.


@pytest.fixture(params=["powerdns", "route53", "cloudflare"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path) as found:  # type: ignore[attr-defined]
        assert found.double is not None
        yield found


def test_an_unanswered_change_that_took_effect_is_done(api: Backend) -> None:
    assert api.double is not None
    api.double.lose = "after"
    result = api.perform(Change(before=MAIL, after=to(NEW)))
    assert result.ok
    assert "though the server did not say so" in result.detail
    assert api.double.changes() == 1, "it was sent once"


def test_an_unanswered_change_without_effect_is_an_error(api: Backend) -> None:
    assert api.double is not None
    api.double.lose = "before"
    with pytest.raises(Errored, match="the zone is unchanged"):
        api.perform(Change(before=MAIL, after=to(NEW)))
    assert api.double.changes() == 1


def test_a_server_error_is_looked_into(api: Backend) -> None:
    assert api.double is not None
    api.double.status = 502
    with pytest.raises(Errored, match="the zone is unchanged"):
        api.perform(Change(before=MAIL, after=to(NEW)))
    assert api.get(MAIL.name, "A") == MAIL


def test_too_many_requests_have_changed_nothing(api: Backend) -> None:
    assert api.double is not None
    api.double.status = 429
    with pytest.raises(Errored, match="no more requests for now"):
        api.perform(Change(before=MAIL, after=to(NEW)))


def test_an_unanswered_change_nobody_can_look_after_is_in_doubt(api: Backend) -> None:
    assert api.double is not None
    double = api.double
    stopped: list[threading.Thread] = []

    def die() -> None:
        stopped.append(threading.Thread(target=double.stop))
        stopped[0].start()

    double.lose, double.meanwhile = "after", die
    with pytest.raises((InDoubt, Errored)) as caught:
        api.perform(Change(before=MAIL, after=to(NEW)))
    stopped[0].join()
    assert isinstance(caught.value, InDoubt)
    assert "its outcome is unknown" in caught.value.message


def test_a_dead_api_is_an_error(api: Backend) -> None:
    assert api.double is not None
    api.double.stop()
    with pytest.raises(Errored):
        api.dns.records(api.zone)
    with pytest.raises(Errored):
        api.perform(Change(before=MAIL, after=to(NEW)))


def test_it_is_read_right_before_it_is_written(api: Backend) -> None:
    """Between our reading and our writing somebody else writes. A server that swaps refuses; one
    that cannot is asked for the sets in the request right before the change, which is all there
    is, and what is overwritten is what the plan warned of."""
    assert api.double is not None
    double = api.double
    double.meanwhile = lambda: double.put(to("192.0.2.66"))
    result = api.perform(Change(before=MAIL, after=to(NEW)))
    at = next(i for i, (method, _) in enumerate(double.log) if method != "GET")
    assert double.log[at - 1][0] == "GET"
    if api.caps.cas == "server":
        assert not result.ok
        assert "now 192.0.2.66" in result.detail
        assert api.get(MAIL.name, "A") == to("192.0.2.66")
    else:
        assert result.ok
        assert api.zone.caution
