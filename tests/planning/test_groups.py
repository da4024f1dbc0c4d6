"""The order of steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.planning.groups import Cycle, Groups, ancestors, in_order

GRAPHS = st.integers(1, 25).flatmap(
    lambda size: st.tuples(
        st.permutations(range(size)),
        st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=60),
    )
)
"""A hidden order, and pairs of places in it: edges never go back in that order."""


def _graph(case: tuple[list[int], list[tuple[int, int]]]) -> dict[str, list[str]]:
    order, pairs = case
    after: dict[str, list[str]] = {str(index): [] for index in range(len(order))}
    for one, two in pairs:
        if one != two:
            first, second = sorted((one, two))
            after[str(order[second])].append(str(order[first]))
    return after


@given(GRAPHS)
def test_every_step_comes_after_those_it_waits_for(
    case: tuple[list[int], list[tuple[int, int]]]
) -> None:
    after = _graph(case)
    order = in_order(after)
    place = {name: index for index, name in enumerate(order)}
    assert sorted(order) == sorted(after)
    assert all(place[one] < place[name] for name, earlier in after.items() for one in earlier)


@given(GRAPHS)
def test_the_written_order_is_left_only_where_it_must_be(
    case: tuple[list[int], list[tuple[int, int]]]
) -> None:
    after = _graph(case)
    written = {name: index for index, name in enumerate(after)}
    order = in_order(after)
    done: set[str] = set()
    for name in order:
        free = [n for n in after if n not in done and set(after[n]) <= done]
        assert name == min(free, key=written.__getitem__)
        done.add(name)


@given(GRAPHS)
def test_ancestors_are_all_that_can_be_reached_backwards(
    case: tuple[list[int], list[tuple[int, int]]]
) -> None:
    after = _graph(case)
    order = in_order(after)
    found = ancestors(order, after)
    for name in order:
        reached: set[str] = set()
        todo = list(after[name])
        while todo:
            one = todo.pop()
            if one not in reached:
                reached.add(one)
                todo += after[one]
        assert {order[i] for i in range(len(order)) if found[name] >> i & 1} == reached


def test_a_cycle_is_named() -> None:
    with pytest.raises(Cycle) as caught:
        in_order({"x": [], "a": ["x", "c"], "b": ["a"], "c": ["b"]})
    assert set(caught.value.steps) == {"a", "b", "c"}


def test_a_group_of_groups_means_their_steps() -> None:
    groups = Groups()
    for name in ("a", "b", "c"):
        groups.step(name)
    groups.several("inner", ["a", "b"])
    groups.several("outer", ["inner", "c", "a"])
    assert groups.steps("outer") == ("a", "b", "c")
    assert groups.steps("nothing") == ()
