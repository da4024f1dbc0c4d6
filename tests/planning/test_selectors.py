"""The language of ``hosts:``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.selector import Hosts, select
from runbook.planning.selectors import HostPicker
from runbook.templating import render
from tests.planning.builders import INVENTORY

ALL = {host.name for host in INVENTORY.hosts}


def _names(expression: str) -> list[str]:
    return [host.name for host in select(expression, INVENTORY)]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("all", ["db1", "db2", "web1", "web2", "web3"]),
        ("role=db and site=east", ["db1"]),
        ("role:db and not east", ["db2"]),
        ("group=edge", ["web1"]),
        ("name~web*", ["web1", "web2", "web3"]),
        ("web*", ["web1", "web2", "web3"]),
        ("db2, web3", ["db2", "web3"]),
        ("web and (east or db)", ["web1", "web2"]),
        ("not (web or db1)", ["db2"]),
        ("not not db1", ["db1"]),
        ("web and db", []),
    ],
)
def test_expressions(expression: str, names: list[str]) -> None:
    assert _names(expression) == names


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "empty"), ("web and", "ends too early"), ("(web", "`)` is missing"),
        ("web db", "put `and`"), ("role=dbb", "did you mean 'db'"), ("rack=3", "chosen by site"),
        ("role=", "no host"), (") or", "not expected"), ("not " * 60 + "web", "too deeply"),
    ],
)
def test_faults(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        select(expression, INVENTORY)


WORDS = st.sampled_from(["all", "db", "web", "east", "west", "db1", "name~web?", "role=db"])


@given(
    st.recursive(
        WORDS.map(lambda word: (word, frozenset(_names(word)))),
        lambda inner: st.one_of(
            inner.map(lambda one: (f"not ({one[0]})", frozenset(ALL - one[1]))),
            st.tuples(inner, inner).map(
                lambda two: (f"({two[0][0]}) and ({two[1][0]})", two[0][1] & two[1][1])),
            st.tuples(inner, inner).map(
                lambda two: (f"({two[0][0]}), ({two[1][0]})", two[0][1] | two[1][1])),
        ),
        max_leaves=8,
    )
)
def test_an_expression_is_the_set_it_says(case: tuple[str, frozenset[str]]) -> None:
    assert frozenset(_names(case[0])) == case[1]


@given(st.tuples(WORDS, WORDS, WORDS))
def test_and_binds_tighter_than_or(words: tuple[str, str, str]) -> None:
    a, b, c = words
    assert _names(f"{a} or {b} and {c}") == _names(f"{a} or ({b} and {c})")
    assert _names(f"not {a} and {b}") == _names(f"(not {a}) and {b}")


def test_a_list_keeps_its_order_and_names_each_host_once() -> None:
    picked = HostPicker(INVENTORY).pick(["web2", "east"])
    assert [host.name for host in picked] == ["web2", "db1", "web1"]


def test_a_host_chosen_by_a_template_is_that_host_alone() -> None:
    inventory = INVENTORY.model_copy(
        update={"hosts": (INVENTORY.hosts[0].model_copy(update={"name": "web"}),
                          *INVENTORY.hosts)}
    )
    host = render("{{ hosts.one('name=web') }}", {"hosts": Hosts(inventory)})
    assert [one.name for one in HostPicker(inventory).pick(host)] == ["web"]
    assert len(HostPicker(inventory).pick("web")) == 4
