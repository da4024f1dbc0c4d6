"""The arithmetic of caches, also against simulated ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.model.dns import RRset
from runbook.model.dns_ttl import CachedSet, negative_ttl, no_old_answer, old_side_off


def test_the_latest_set_decides_and_the_arithmetic_is_shown() -> None:
    deadline = no_old_answer(
        [
            CachedSet(name="www.shop.example. A", old_ttl=3600, last_old=1000.0),
            CachedSet(name="api.shop.example. A", old_ttl=300, last_old=4000.0),
        ],
        skew=5, extra=60,
    )
    assert deadline.until == 1000 + 3600 + 5 + 60
    assert deadline.why == (
        "www.shop.example. A: every server seen with the new answer by 1970-01-01 00:16:40Z "
        "+ old TTL 3600s + skew 5s + extra 1m = 1970-01-01 01:17:45Z (the latest of 2 sets)"
    )


def test_without_sets_there_is_no_moment() -> None:
    with pytest.raises(ValueError, match="nothing to wait for"):
        no_old_answer([], skew=5)


def test_the_old_side_goes_off_after_the_allowances() -> None:
    assert old_side_off(1000.0).until == 1000 + 3600 + 86400


def test_negative_answers_live_for_the_smaller_of_two() -> None:
    soa = RRset(name="s.", rtype="SOA", ttl=3600, rdatas=("ns1.s. h.s. 1 7200 900 1209600 300",))
    assert negative_ttl(soa) == 300
    assert negative_ttl(soa.with_ttl(60)) == 60
    with pytest.raises(ValueError, match="not an SOA"):
        negative_ttl(soa.model_copy(update={"rtype": "A"}))


SERVER = st.tuples(
    st.floats(min_value=0, max_value=500),  # when it begins to give the new answer
    st.integers(min_value=0, max_value=7200),  # the TTL it gives the old one with
)
FETCH = st.tuples(
    st.integers(min_value=0, max_value=4),
    st.floats(min_value=-10_000, max_value=1500),
    st.floats(min_value=0, max_value=4.9),  # the answer is this long under way
)


@given(
    servers=st.lists(SERVER, min_size=1, max_size=4),
    fetches=st.lists(FETCH, max_size=40),
    first_poll=st.floats(min_value=0, max_value=30),
    every=st.floats(min_value=0.5, max_value=20),
)
def test_no_cache_holds_an_old_answer_after_the_moment_promised(
    servers: list[tuple[float, int]],
    fetches: list[tuple[int, float, float]],
    first_poll: float,
    every: float,
) -> None:
    """Caches ask any server at any time; an old answer lives for the TTL it came with."""

    def first_seen(switched: float) -> float:
        at = first_poll
        while at < switched:
            at += every
        return at

    cached = CachedSet(
        name="www.shop.example. A",
        old_ttl=max(ttl for _, ttl in servers),
        last_old=max(first_seen(switched) for switched, _ in servers),
    )
    promised = no_old_answer([cached], skew=5.0).until
    for number, asked, under_way in fetches:
        switched, ttl = servers[number % len(servers)]
        if asked < switched:
            assert asked + under_way + ttl < promised
