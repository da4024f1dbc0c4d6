"""What goes into templates and comes out of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import TemplateFault
from runbook.model.inventory import Host, Inventory
from runbook.model.selector import HostName, Hosts
from runbook.templating import render
from runbook.templating.outputs import pack, unpack
from runbook.templating.values import Names, did_you_mean, plain, protect, unprotect

INVENTORY = Inventory(hosts=(Host(name="db1", address="10.0.0.1"),))


@given(st.text(alphabet=st.sampled_from([*"{}%#\\\"'ab \n\té😀"]), max_size=30))
def test_a_protected_text_renders_to_itself(text: str) -> None:
    assert render(protect(text), {}) == text
    assert unprotect(protect(text)) == text


def test_names_hide_nothing() -> None:
    names = Names({"items": 1, "keys": 2})
    assert render("{{ n.items }}{{ n['keys'] }}", {"n": names}) == "12"
    with pytest.raises(TemplateFault):
        render("{{ n.values }}", {"n": names})


def test_plain_brings_everything_down_to_json() -> None:
    host = HostName(INVENTORY.hosts[0])
    made = plain({"a": (host, 1.5), "b": (n for n in range(2)), "c": Names({"d": None})})
    assert made == {"a": ["db1", 1.5], "b": [0, 1], "c": {"d": None}}
    assert type(made["a"][0]) is str
    for bad in (float("inf"), object(), b"x"):
        with pytest.raises(TemplateFault):
            plain(bad)


def test_hosts_survive_being_packed() -> None:
    [host] = Hosts(INVENTORY).all()
    back = unpack(pack({"on": [host], "n": 1}), INVENTORY)
    assert back == {"on": ["db1"], "n": 1}
    assert back["on"][0].address == "10.0.0.1"


def test_did_you_mean() -> None:
    assert did_you_mean("hots", ["host", "port"]) == "did you mean `host`?"
    assert did_you_mean("zzz", ["b", "a"]) == "there is: a, b"
    assert did_you_mean("zzz", []) == ""
