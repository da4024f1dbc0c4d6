"""``dns.shift`` by itself: which weights each stage has, what it refuses, what a plan shows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.kinds.dns_common import to_json
from runbook.kinds.dns_shift import DnsShift
from runbook.loading import load_runbook
from runbook.model.actions import ChangeRecordSet, Confirm, WaitFor
from runbook.model.dns import RRset, Variant
from runbook.model.observation import Observation
from runbook.planning import build_plan
from runbook.planning.preview import preview
from tests.cli.running import runbook
from tests.dns_lab import NEW, OLD
from tests.transports.dns_backends import AWS_KEYS
from tests.transports.route53_double import Route53Double


def shift(*stages: str, hold: str = "10m", **more: Any) -> DnsShift:
    return DnsShift.model_validate({
        "zone": "shop.example", "name": "www", "from": "east", "to": "west",
        "stages": list(stages) or ["5%", "25%", "100%"], "hold": hold, **more,
    })


def weighted(rtype: str = "A", **weights: int) -> RRset:
    variants = tuple(
        Variant(name=name, weight=weight, ttl=60, rdatas=(NEW if name == "west" else OLD,))
        for name, weight in sorted(weights.items())
    )
    return RRset(
        name="www.shop.example.", rtype=rtype, ttl=60, rdatas=(OLD, NEW), variants=variants
    )


def saw(*sets: RRset) -> Observation:
    return Observation(state={"sets": to_json(sets)}, evidence={"max_weight": 255}, at=1000.0)


def ways(kind: DnsShift, *sets: RRset) -> list[dict[str, int]]:
    """The weights after each change that it plans."""
    return [
        cast(RRset, action.changes[0].after).weights
        for action in kind.plan(saw(*sets)).actions if isinstance(action, ChangeRecordSet)
    ]


@pytest.mark.parametrize(
    ("before", "stages"),
    [
        ({"east": 1, "west": 0}, [(95, 5), (75, 25), (0, 100)]),
        ({"east": 255, "west": 0}, [(95, 5), (75, 25), (0, 100)]),
        ({"east": 9, "west": 1}, [(75, 25), (0, 100)]),
        ({"east": 75, "west": 25}, [(0, 100)]),
        ({"east": 0, "west": 3}, []),
    ],
)
def test_a_stage_is_a_share_whatever_the_weights_were(
    before: dict[str, int], stages: list[tuple[int, int]]
) -> None:
    assert ways(shift(), weighted(**before)) == [
        {"east": east, "west": west} for east, west in stages
    ]


def test_what_others_carry_stays_in_proportion() -> None:
    [first, last] = ways(shift("50%", "100%"), weighted(east=60, west=0, third=20))
    assert first == {"east": 36, "west": 36, "third": 24}
    assert last == {"east": 0, "west": 75, "third": 25}


@given(
    st.integers(1, 255), st.integers(0, 255),
    st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True),
)
def test_every_stage_is_exact_and_the_same_from_wherever_it_is_come_to(
    east: int, west: int, percents: list[int]
) -> None:
    kind = shift(*(f"{one}%" for one in sorted(percents)))
    start = weighted(east=east, west=west)
    before = saw(start)
    made = ways(kind, start)
    passed = [start.with_weights(one) for one in made]
    assert [one["sets"] for one in kind.on_the_way(before)] == [to_json([one]) for one in passed]
    for number, one in enumerate(passed):
        assert 0 < sum(one.weights.values()) <= 100
        assert ways(kind, one) == made[number + 1:], "as a retry would see it"
    if made:
        assert made[-1]["west"] * 100 == max(percents) * sum(made[-1].values())


def test_a_stage_is_a_change_a_hold_and_a_look() -> None:
    actions = shift().plan(saw(weighted(east=1, west=0))).actions
    assert [type(one) for one in actions] == [ChangeRecordSet, WaitFor, Confirm] * 3
    changes = [one.changes[0] for one in actions if isinstance(one, ChangeRecordSet)]
    for one, following in pairwise(changes):
        assert following.before == one.after, "each is guarded by the one before"
    [wait, *_] = [one for one in actions if isinstance(one, WaitFor)]
    assert wait.after_last == 600
    assert "stage 1 of 3, 5% on west: held for 10m" in wait.why
    assert not any(isinstance(one, WaitFor) for one in shift(hold="0s").plan(
        saw(weighted(east=1, west=0))).actions)


def test_both_families_are_shifted_in_one_update() -> None:
    sets = (weighted(east=1, west=0), weighted("AAAA", east=3, west=1))
    kind = shift("5%", "100%")
    [first, last] = [
        one.changes for one in kind.plan(saw(*sets)).actions if isinstance(one, ChangeRecordSet)
    ]
    assert [one.key[1] for one in first] == ["A"], "the other is beyond 5% already"
    assert [one.key[1] for one in last] == ["A", "AAAA"]
    [back] = kind.undo(saw(*sets))
    assert isinstance(back, ChangeRecordSet)
    assert [one.after for one in back.changes] == list(sets)


def test_a_second_plan_is_empty_and_verified() -> None:
    kind, before = shift(), saw(weighted(east=7, west=0))
    after = saw(weighted(east=0, west=100))
    assert kind.plan(after).actions == ()
    assert kind.plan(after).reason == "already done: www.shop.example. A: east 0, west 100"
    assert kind.verify(before, after).ok
    assert kind.verify(after, after).ok
    assert not kind.verify(before, saw(weighted(east=75, west=25))).ok
    assert kind.undo(after) == ()


PLAIN = RRset(name="www.shop.example.", rtype="AAAA", ttl=60, rdatas=("2001:db8::1",))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ((), "www.shop.example. has no A or AAAA or CNAME set"),
        ((weighted(east=1, west=0), PLAIN), "www.shop.example. AAAA is not weighted"),
        ((weighted(east=1, north=0),), "has no variant west (it has: east, north)"),
        ((weighted(east=0, west=0, north=1),), "neither east nor west carries any weight"),
        ((weighted(east=97, west=0, third=89),), "would take weights above 255"),
    ],
)
def test_what_cannot_be_shifted_is_refused(sets: tuple[RRset, ...], words: str) -> None:
    kind, before = shift(), saw(*sets)
    planned = kind.plan(before)
    assert planned.actions == ()
    assert planned.reason.startswith("refused: ")
    assert words in planned.reason
    verdict = kind.verify(before, before)
    assert not verdict.ok
    assert not verdict.retry
    assert words in verdict.seen
    assert kind.undo(before) == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stages": ["5%", "5%"]}, "have to grow"),
        ({"stages": ["25%", "5%"]}, "have to grow"),
        ({"stages": [5]}, "write it like 5%"),
        ({"stages": ["0%"]}, "up to 100%"),
        ({"stages": ["101%"]}, "up to 100%"),
        ({"stages": []}, "at least 1"),
        ({"to": "east"}, "the same variant"),
    ],
)
def test_bad_stages_are_said(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        shift(**{"stages": ["5%"], **given})


BOOK = """\
runbook: shifting
zones: {{shop.example: {zone}}}
steps:
  - id: shift
    kind: dns.shift
    with:
      {{zone: {name}, name: www, from: east, to: west, stages: [5%, 100%], hold: 10m}}
    verify: [{{http: "http://www.shop.example/health", status: 200}}]
"""


def book(folder: Path, zone: str = "{provider: route53}", name: str = "shop.example") -> Path:
    file = folder / "runbook.yml"
    file.write_text(BOOK.format(zone=zone, name=name))
    return file


def test_the_plan_shows_every_stage_and_its_check(tmp_path: Path) -> None:
    plan = build_plan(load_runbook(book(tmp_path), kinds=registry()), kinds=registry())
    [doing] = preview(plan, registry())["shift"].doings
    assert doing.lines == (
        "in shop.example: www, from east to west",
        "stage 1 of 2: 5% on west, held for 10m, then the checks",
        "stage 2 of 2: 100% on west, held for 10m, then the checks",
        "a check that does not hold: back at once to the weights observed before",
    )
    assert doing.verify == ("http.check: GET http://www.shop.example/health: 200",)
    assert plan.by_id["shift"].estimate > 1200
    assert plan.by_id["shift"].estimate_undo < 60


@pytest.mark.parametrize(
    ("zone", "name", "words"),
    [
        ("{servers: ns1}", "shop.example",
         "provider rfc2136 of the zone shop.example. knows no weights"),
        ("{provider: route53}", "shop.exampel", "there is no zone 'shop.exampel'"),
    ],
)
def test_a_zone_without_weights_is_an_error_of_the_plan(
    tmp_path: Path, zone: str, name: str, words: str
) -> None:
    file = book(tmp_path, zone, name)
    with pytest.raises(InvalidInput) as caught:
        build_plan(load_runbook(file, kinds=registry()), kinds=registry())
    text = caught.value.render()
    assert words in text
    assert f"{file}:7:14" in text
    assert "weights are known to: route53" in text or "did you mean" in text


def test_the_command_line_probes_and_runs_it(tmp_path: Path) -> None:
    """Against Route 53's double: what the probe shows is what the run does and the log tells."""
    pool = Route53Double()
    try:
        pool.put(RRset(name="shop.example.", rtype="NS", ttl=60, rdatas=("ns.example.",)))
        for name, weight, address in (("east", 3, OLD), ("west", 0, NEW)):
            pool.put(RRset(name="www.shop.example.", rtype="A", ttl=60, rdatas=(address,)),
                     SetIdentifier=name, Weight=weight)
        (tmp_path / "keys").write_text(AWS_KEYS)
        file = book(tmp_path, f'{{provider: route53, endpoint: "{pool.url}", key: aws}}')
        text = file.read_text().replace("hold: 10m", "hold: 50ms").replace(
            'http: "http://www.shop.example/health", status: 200', "command: 'true'"
        )
        file.write_text(f"secrets: {{aws: {{file: keys}}}}\n{text}")
        said = runbook(tmp_path, "rehearse", str(file), "--level", "probe").stdout
        flat = " ".join(said.split())
        assert "weigh www.shop.example. A: east 95, west 5; wait: stage 1 of 2, 5% on west" in flat
        assert "weigh www.shop.example. A: east 0, west 100" in flat
        assert pool.changes() == 0
        runbook(tmp_path, "run", str(file), "--yes")
        assert pool.weights("www.shop.example.") == {"east": 0, "west": 100}
        log = runbook(tmp_path, "log").stdout
        assert "action 1: 1 record set changed and read back" in log
        assert "action 3: stage 1 of 2, 5% on west: assert:" in log
    finally:
        pool.stop()


def test_a_sandbox_refuses_it_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yml").write_text("{}\n")
    done = runbook(
        tmp_path, "rehearse", str(book(tmp_path)), "--level", "sandbox", code=11
    )
    assert "which these steps move: shift" in done.stderr + done.stdout
    assert "--level probe" in done.stderr + done.stdout
