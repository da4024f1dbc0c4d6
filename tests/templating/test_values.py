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


@pytest.mark.parametrize("text", [
    "{{ 'a' * 999999999 }}", "{{ 999999999 * 'a' }}", "{{ [0] * 999999999 }}", "{{ 9**9**9 }}",
    "{{ 10**10**8 }}", "{{ 'a'.center(3000000000) }}", "{{ 'a'.zfill(n) }}",
    "{{ 'a' | center(3000000000) }}", "{{ 'a' | indent(width=n) }}", "{{ [1] | slice(n) | list }}",
    "{{ [1] | batch(n, 0) | list }}", "{{ '%999999999d' % 1 }}", "{{ '%*d' % (n, 1) }}",
    "{{ '%999999999d' | format(1) }}", "x{% for i in 'a' * n %}b{% endfor %}",
])
def test_no_short_text_fills_the_memory(text: str) -> None:
    with pytest.raises(TemplateFault, match="not allowed"):
        render(text, {"n": 999_999_999})


@pytest.mark.parametrize(("text", "made"), [
    ("{{ 'ab' * 3 }}", "ababab"), ("{{ 2 * 'ab' }}", "abab"), ("{{ [1] * 2 }}", [1, 1]),
    ("{{ 2**64 }}", 2**64), ("{{ 2.5 * 4 }}", 10.0), ("{{ 2**0.5 }}", 2**0.5), ("{{ 7 % 4 }}", 3),
    ("{{ '%05.1f' % 2.5 }}", "002.5"), ("{{ '%s-%s' % ('a', 1) }}", "a-1"),
    ("{{ '%s-%d' | format('a', 1) }}", "a-1"), ("{{ 'a'.center(3) }}", " a "),
    ("{{ 'a' | center(3) }}", " a "), ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
    ("{{ '%(x)s' | format(x=1) }}", "1"), ("{{ 1 / 4 }}", 0.25), ("{{ -2 * 3 }}", -6),
    ("{{- -2 -}}", -2), ("{{-2 }}", 2),
])
def test_arithmetic_is_as_ever(text: str, made: object) -> None:
    assert render(text, {}) == made
