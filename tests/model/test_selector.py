"""Host expressions."""

from __future__ import annotations

import pytest

from runbook.model.inventory import Host, Inventory, Site
from runbook.model.selector import Hosts, select

INVENTORY = Inventory(
    sites=(Site(name="east"), Site(name="west"), Site(name="south")),
    hosts=(
        Host(name="e-web1", address="1", site="east", roles=("web",), groups=("blue",)),
        Host(name="e-db", address="2", site="east", roles=("db",)),
        Host(name="w-web1", address="3", site="west", roles=("web",), vars={"disk": "sda"}),
        Host(name="w-db", address="4", site="west", roles=("db", "web")),
    ),
)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("all", "e-web1 e-db w-web1 w-db"),
        ("east", "e-web1 e-db"),
        ("east and db", "e-db"),
        ("not east", "w-web1 w-db"),
        ("east or west and db", "e-web1 e-db w-db"),
        ("(east or west) and db", "e-db w-db"),
        ("db and not west, e-web1", "e-web1 e-db"),
        ("*-web1", "e-web1 w-web1"),
        ("blue", "e-web1"),
        ("role:web and site:west", "w-web1 w-db"),
        ("not (web or db)", ""),
        ("south", ""),
        (["w-db", "e-db"], "e-db w-db"),
    ],
)
def test_select(expression: str | list[str], names: str) -> None:
    assert [host.name for host in select(expression, INVENTORY)] == names.split()


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "empty"), ("esat", "no host, site, role or group"), ("east db", "was not expected"),
        ("(east", "`)` is missing"), ("east and", "ends too early"), ("and", "was not expected"),
        ("not " * 200 + "east", "nested too deeply"), ("site:web", "no host, site"),
    ],
)
def test_malformed(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match="^.*" + said.replace(")", r"\)")):
        select(expression, INVENTORY)


def test_the_name_in_templates() -> None:
    hosts = Hosts(INVENTORY)
    assert hosts.one("west and db") == "w-db"
    assert hosts.one("w-web1").disk == "sda"
    assert hosts.one("w-db").address == "4"
    assert hosts.count("web") == 3
    assert hosts.all("east") == ["e-web1", "e-db"]
    with pytest.raises(ValueError, match="means 2 hosts"):
        hosts.one("east")
    with pytest.raises(AttributeError):
        hosts.one("w-db").disk  # noqa: B018 - the access is the test
