"""A small world for the tests of this folder: two sites, a shop, DNS."""

from __future__ import annotations

import shutil
from pathlib import Path

from runbook.model.dns import Zone
from runbook.model.inventory import Host, Inventory, Site
from runbook.model.plan import Plan
from runbook.model.runbook import Window

SHOP = Path(__file__).parents[2] / "examples" / "shop-2009"
WINDOW = Window(start=1_252_731_600.0, duration=7200.0, timezone="America/New_York")
"""2009-09-12 01:00 in New York."""


def shop_plan() -> Plan:
    """The hosts and the zone of the shop example, and no steps."""
    hosts = (
        Host(name="east-web", address="198.51.100.10", site="east"),
        Host(name="west-web", address="203.0.113.10", site="west"),
        Host(name="west-probe", address="probe.west.example", site="west", user="prober"),
    )
    sites = (
        Site(name="east", resolver="198.51.100.53"), Site(name="west", resolver="203.0.113.53")
    )
    zone = Zone(name="shop.example.", servers=("ns1.shop.example",), key="tsig")
    return Plan(
        runbook="shop", window=WINDOW, inventory=Inventory(hosts=hosts, sites=sites), zones=(zone,)
    )


def hurried(directory: Path) -> Path:
    """A copy of the example in which even a wait of two days takes a tenth of a second."""
    copy = directory / "shop"
    shutil.copytree(SHOP, copy, ignore=shutil.ignore_patterns(".runbook", "__pycache__"))
    config = copy / "sandbox.yml"
    text = config.read_text()
    assert "longest_wait: 3s" in text
    config.write_text(text.replace("longest_wait: 3s", "longest_wait: 0.1s"))
    return copy
