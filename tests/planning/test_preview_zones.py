"""What a plan tells of the provider of a zone that a step changes."""

from __future__ import annotations

import pytest

from runbook.kinds import registry
from runbook.model.dns import Change, RRset, Zone
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


def test_each_view_has_differences_of_its_own() -> None:
    """Two zones of one name: what a step changes in one, the other still holds."""
    old = RRset(name="www.shop.example.", rtype="A", ttl=60, rdatas=("192.0.2.1",))
    views = ("shop.example.", "shop.example@inside")
    book = Book(zones=(
        Zone(name="shop.example.", servers=("ns1",)),
        Zone(name="shop.example.", view="inside", servers=("ns2",)),
    ))
    for number, view in enumerate((*views, views[0])):
        book = book.step(f"flip-{number}", "dns.flip", args={
            "zone": view, "from": "192.0.2.1", "to": "192.0.2.2", "names": ["www"],
        })
    plan = build_plan(book.runbook(), kinds=registry())
    found = preview(plan, registry(), dict.fromkeys(views, (old,)))
    moved = Change(before=old, after=old.model_copy(update={"rdatas": ("192.0.2.2",)}))
    assert [one.changes for one in found.values()] == [(moved,), (moved,), ()]
    assert plan.zone("Shop.Example.@Inside") == plan.zones[1]
