"""What a plan tells of the provider of a zone that a step changes."""

from __future__ import annotations

import pytest

from runbook.kinds import registry
from runbook.model.dns import Zone
from runbook.planning import build_plan
from runbook.planning.preview import preview
from tests.planning.builders import Book


def lines(provider: str) -> dict[str, tuple[str, ...]]:
    book = (
        Book(zones=(Zone(name="shop.example.", provider=provider),))
        .step("list", "dns.inventory", args={"zone": "shop.example", "points_at": "192.0.2.1"})
        .step("flip", "dns.flip", args={"zone": "Shop.Example", "from": "192.0.2.1",
                                        "to": "192.0.2.2"})
    )
    plan = build_plan(book.runbook(), kinds=registry())
    return {name: one.doings[0].lines for name, one in preview(plan, registry()).items()}


@pytest.mark.parametrize("provider", ["powerdns", "cloudflare"])
def test_a_provider_that_cannot_swap_is_named_where_the_zone_is_changed(provider: str) -> None:
    found = lines(provider)
    assert found["flip"][-1].startswith(f"note: {provider} has no compare-and-swap (read-check)")
    assert not any("compare-and-swap" in line for line in found["list"]), "it changes nothing"


@pytest.mark.parametrize("provider", ["rfc2136", "route53"])
def test_of_one_that_swaps_nothing_is_said(provider: str) -> None:
    assert lines(provider)["flip"] == ("in Shop.Example: 192.0.2.1 → 192.0.2.2",)
