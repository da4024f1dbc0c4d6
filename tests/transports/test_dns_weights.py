"""Weighted sets at Route 53: read and swapped whole, put back with all that hangs on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook.kinds.dns_common import from_json, to_json
from runbook.kinds.dns_flip import DnsFlip
from runbook.kinds.dns_ttl import DnsTtl
from runbook.model.dns import Change, RRset
from tests.dns_lab import NEW, OLD
from tests.transports.dns_backends import Backend, powerdns, rfc2136, route53
from tests.transports.route53_double import Route53Double

WWW = "pool.shop.example."


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Backend]:
    with route53(tmp_path) as found:
        yield found


def double_of(backend: Backend) -> Route53Double:
    assert isinstance(backend.double, Route53Double)
    return backend.double


def put(backend: Backend, name: str, weight: int, address: str, **more: Any) -> None:
    double_of(backend).put(
        RRset(name=WWW, rtype="A", ttl=60, rdatas=(address,)),
        SetIdentifier=name, Weight=weight, **more,
    )


def two(backend: Backend) -> RRset:
    put(backend, "east", 255, OLD, HealthCheckId="hc-east")
    put(backend, "west", 0, NEW)
    found = backend.get(WWW, "A")
    assert found is not None
    return found


def test_the_variants_of_a_name_are_one_set(aws: Backend) -> None:
    found = two(aws)
    assert found.weights == {"east": 255, "west": 0}
    assert found.rdatas == tuple(sorted((OLD, NEW)))
    assert found.ttl == 60
    assert '"hc-east"' in found.variants[0].also
    assert found in aws.dns.records(aws.zone)
    assert from_json(to_json([found])) == [found], "it goes through the journal whole"


def test_weights_are_swapped_and_put_back_with_all_that_hangs_on_them(aws: Backend) -> None:
    before = two(aws)
    stored = {key: dict(data) for key, data in double_of(aws).sets.items()}
    change = Change(before=before, after=before.with_weights({"east": 95, "west": 5}))
    result = aws.perform(change)
    assert result.ok, result.detail
    assert double_of(aws).weights(WWW) == {"east": 95, "west": 5}
    assert double_of(aws).sets[(WWW, "A", "east")]["HealthCheckId"] == "hc-east"
    again = aws.perform(change)
    assert again.ok
    assert again.data["already"] is True
    assert aws.perform(change.reversed).ok
    assert double_of(aws).sets == stored
    assert double_of(aws).changes() == 2


def test_a_weight_changed_by_another_is_drift(aws: Backend) -> None:
    before = two(aws)
    put(aws, "west", 10, NEW)
    result = aws.perform(Change(before=before, after=before.with_weights({"west": 5})))
    assert not result.ok
    assert "now east 255, west 10 (TTL 60), the plan saw east 255, west 0 (TTL 60)" in result.detail
    assert double_of(aws).changes() == 0


@pytest.mark.parametrize("other", ["west", "third"])
def test_every_variant_is_guarded_by_the_server(aws: Backend, other: str) -> None:
    """Changed between our reading and our writing, also where we would not have touched it."""
    put(aws, "third", 40, "192.0.2.99")
    before = two(aws)
    double_of(aws).meanwhile = lambda: put(aws, other, 41, "192.0.2.99")
    result = aws.perform(Change(before=before, after=before.with_weights({"east": 250})))
    assert not result.ok
    assert f"{other} 41" in result.detail
    assert double_of(aws).weights(WWW)["east"] == 255


def test_one_who_is_new_among_them_is_noticed(aws: Backend) -> None:
    before = two(aws)
    double_of(aws).meanwhile = lambda: put(aws, "third", 9, "192.0.2.99")
    result = aws.perform(Change(before=before, after=before.with_weights({"east": 250})))
    assert not result.ok
    assert "does not hold it" in result.detail
    assert "third 9" in result.detail


def test_weighted_aliases_have_neither_records_nor_a_ttl(aws: Backend) -> None:
    double = double_of(aws)
    for name, weight in (("east", 1), ("west", 0)):
        double.put_alias(WWW, f"{name}.lb.example.", SetIdentifier=name, Weight=weight)
    before = aws.get(WWW, "A")
    assert before is not None
    assert (before.rdatas, before.weights) == ((), {"east": 1, "west": 0})
    assert aws.dns.records(aws.zone) == aws.records, "no record to look into"
    stored = {key: dict(data) for key, data in double.sets.items()}
    change = Change(before=before, after=before.with_weights({"east": 0, "west": 1}))
    assert aws.perform(change).ok
    assert double.weights(WWW) == {"east": 0, "west": 1}
    assert double.sets[(WWW, "A", "west")]["AliasTarget"] == "west.lb.example."
    assert aws.perform(change.reversed).ok
    assert double.sets == stored


def test_all_variants_are_retimed_together(aws: Backend) -> None:
    before = two(aws)
    kind = DnsTtl(zone="shop.example", points_at=OLD, ttl=10)
    [change] = [c for c in kind.differences({"shop.example.": (before,)}) if c.before == before]
    assert aws.perform(change).ok
    now = aws.get(WWW, "A")
    assert now == before.with_ttl(10)
    assert [one.ttl for one in now.variants] == [10, 10]
    assert aws.perform(change.reversed).ok
    assert aws.get(WWW, "A") == before


def test_a_flip_leaves_weighted_sets_to_the_shift(aws: Backend) -> None:
    before = two(aws)
    kind = DnsFlip.model_validate({"zone": "shop.example", "from": OLD, "to": NEW})
    [why] = kind._rewriting([before]).blocked
    assert f"{WWW} A is weighted (east 255, west 0)" in why
    assert "dns.shift" in why


def test_what_the_provider_refuses_changes_nothing(aws: Backend) -> None:
    before = two(aws)
    result = aws.perform(Change(before=before, after=before.with_weights({"west": 256})))
    assert not result.ok
    assert "Invalid Weight 256" in result.detail
    east, west = before.variants
    both = west.model_copy(update={"rdatas": (NEW, "192.0.2.1")})
    wide = before.model_copy(update={"variants": (east, both)})
    assert "Only one ResourceRecord" in aws.perform(Change(before=before, after=wide)).detail
    plain = RRset(name=WWW, rtype="A", ttl=60, rdatas=(NEW,))
    assert not aws.perform(Change(before=None, after=plain)).ok, "not beside the weighted ones"
    assert aws.get(WWW, "A") == before


@pytest.mark.parametrize("backend", [rfc2136, powerdns])
def test_other_providers_are_not_asked(tmp_path: Path, aws: Backend, backend: Any) -> None:
    before = two(aws)
    with backend(tmp_path) as other:
        result = other.perform(Change(before=None, after=before))
        assert not result.ok
        assert "knows no weighted sets; nothing was sent" in result.detail
        assert other.dns.records(other.zone) == other.records
