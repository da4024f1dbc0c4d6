"""The life of the DNS kinds against real servers: forward, verified, undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from runbook.errors import Errored, NotFound
from runbook.kinds.dns_flip import DnsFlip
from runbook.kinds.dns_inventory import DnsInventory
from runbook.kinds.dns_restore_ttl import DnsRestoreTtl
from runbook.kinds.dns_ttl import DnsTtl
from runbook.kinds.dns_verify import DnsVerify
from runbook.kinds.dns_wait_back import DnsWaitBack
from runbook.kinds.dns_wait_ttl import DnsWaitTtl
from runbook.model.actions import ChangeRecordSet, WaitFor
from runbook.model.dns import Change
from runbook.model.kind import Kind
from runbook.model.observation import Observation
from tests.dns_lab import NEW, NEW6, OLD, OLD6, Lab, dns_lab

BOTH: dict[str, Any] = {"zone": "shop.example", "from": [OLD, OLD6], "to": [NEW, NEW6]}
LOWER = DnsTtl(zone="shop.example", points_at=(OLD, OLD6), ttl=60)
FLIP = DnsFlip.model_validate(BOTH)
ALL: tuple[type[Kind], ...] = (
    DnsInventory, DnsTtl, DnsWaitTtl, DnsFlip, DnsVerify, DnsRestoreTtl, DnsWaitBack,
)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with dns_lab() as made:
        yield made


def see(lab: Lab, kind: Kind) -> Observation:
    return kind.observe(lab)  # type: ignore[arg-type]


def outside(
    lab: Lab, name: str, rtype: str, rdatas: tuple[str, ...], ttl: int | None = None
) -> None:
    """Somebody else changes a set."""
    before = lab.dns.get(lab.zone, name, rtype)
    assert before is not None
    after = before.model_copy(update={"rdatas": rdatas, "ttl": before.ttl if ttl is None else ttl})
    assert lab.perform(
        ChangeRecordSet(zone="shop.example.", changes=(Change(before=before, after=after),))
    ).ok


@pytest.mark.parametrize("kind", ALL)
def test_the_example_is_valid(kind: type[Kind]) -> None:
    step = yaml.safe_load(kind.example)[-1]
    assert step["kind"] == kind.name
    kind.model_validate(step["with"])
    for name, field in kind.model_fields.items():
        assert field.description, name


def test_the_inventory_lists_every_way(lab: Lab) -> None:
    kind = DnsInventory(zone=("shop.example",), points_at=(OLD,))
    seen = see(lab, kind)
    outputs = kind.verify(seen, seen).outputs
    found = {f"{one['name']} {one['type']}": one["reason"] for one in outputs["records"]}
    assert outputs["count"] == len(found) == 10
    assert found["www.shop.example. CNAME"] == (
        f"www.shop.example. CNAME → shop.shop.example. A {OLD}"
    )
    assert "other.shop.example. A" not in found
    assert kind.plan(seen).actions == ()
    none = DnsInventory(zone=("shop.example",), points_at=(OLD,), expect="none")
    assert not none.verify(seen, seen).ok


def test_lowering_leaves_lower_ttls_alone_and_remembers(lab: Lab) -> None:
    before, _, verdict = lab.do(LOWER)
    assert verdict.ok, verdict.seen
    ttls = {key: one["ttl"] for key, one in see(lab, LOWER).state["records"].items()}
    assert ttls["api.shop.example. A"] == 30
    assert set(ttls.values()) == {30, 60}
    assert "www.shop.example. CNAME" in ttls
    assert "shop.example. MX" not in ttls
    sets = verdict.outputs["sets"]
    assert sets["shop.shop.example. A"]["old_ttl"] == 1800
    assert sets["www.shop.example. CNAME"]["restore"] == 300
    assert verdict.outputs["old_ttl"] == 3600
    assert before.state["records"]["mail.shop.example. A"]["ttl"] == 3600


def test_a_second_lowering_does_nothing(lab: Lab) -> None:
    lab.do(LOWER)
    planned = LOWER.plan(see(lab, LOWER))
    assert planned.actions == ()
    assert planned.reason.startswith("already done")


def test_what_was_lowered_by_others_a_while_ago_is_waited_for_where_it_is_said(lab: Lab) -> None:
    lab.do(LOWER)
    _, _, unaware = lab.do(LOWER)
    assert unaware.outputs["old_ttl"] == 60
    _, _, told = lab.do(LOWER.model_copy(update={"old_ttl": 86400}))
    assert {one["old_ttl"] for one in told.outputs["sets"].values()} == {86400}
    assert {one["restore"] for one in told.outputs["sets"].values()} == {30, 60}


def test_lowering_is_undone_exactly(lab: Lab) -> None:
    text = lab.primary.snapshot()
    before, after, _ = lab.do(LOWER)
    assert lab.undo(LOWER, before, after).state == before.state
    assert lab.primary.snapshot() == text


def test_lowering_waits_for_the_last_server() -> None:
    with dns_lab(lag=20.0) as lab:
        before = see(lab, LOWER)
        for action in LOWER.plan(before).actions:
            assert lab.perform(action).ok
        early = LOWER.verify(before, see(lab, LOWER))
        assert not early.ok
        assert "(192.0.2.54): mail.shop.example. A has TTL 3600, not 60" in early.seen
        changed = lab.clock.now()
        _, _, verdict = lab.until_verified(LOWER, before)
        assert verdict.ok
        seen = verdict.outputs["sets"]["mail.shop.example. A"]["seen_new_at"]
        assert seen >= changed + 20


def test_a_lagging_server_decides_the_old_ttl() -> None:
    """Somebody lowered the TTL by hand a moment ago; ns2 has not heard of it."""
    with dns_lab(lag=30.0) as lab:
        outside(lab, "mail.shop.example.", "A", (OLD,), ttl=60)
        lab.clock.move(1)
        _, _, verdict = lab.do(LOWER)
        one = verdict.outputs["sets"]["mail.shop.example. A"]
        assert (one["restore"], one["old_ttl"]) == (60, 3600)


def test_no_server_may_be_missing_before(lab: Lab) -> None:
    lab.secondary.stop()
    for kind in (LOWER, FLIP):
        seen = see(lab, kind)
        assert seen.unknown == ("ns2.shop.example. (192.0.2.54): UNREACHABLE",)
        assert kind.plan(seen).actions == ()
        verdict = kind.verify(seen, seen)
        assert not verdict.ok
        assert "`except_servers`" in verdict.seen
    without = FLIP.model_copy(update={"except_servers": ("192.0.2.54",)})
    assert lab.do(without)[2].ok


def test_names_that_lead_nowhere_are_refused(lab: Lab) -> None:
    nowhere = DnsTtl(zone="shop.example", points_at=("192.0.2.200",), ttl=60)
    seen = see(lab, nowhere)
    assert nowhere.plan(seen).reason == "nothing in shop.example leads to 192.0.2.200"
    assert not nowhere.verify(seen, seen).ok
    typo = DnsFlip.model_validate(BOTH | {"names": ["mial", "mail"]})
    seen = see(lab, typo)
    assert typo.plan(seen).actions == ()
    assert "mial holds neither" in typo.verify(seen, seen).seen


def test_the_flip_moves_everything_in_one_update(lab: Lab) -> None:
    text = lab.primary.snapshot()
    before = see(lab, FLIP)
    planned = FLIP.plan(before)
    assert len(planned.actions) == 1
    before, after, verdict = lab.do(FLIP)
    assert verdict.ok, verdict.seen
    moved = lab.primary.snapshot()
    assert OLD not in moved
    assert OLD6 not in moved
    assert moved == text.replace(OLD6, NEW6).replace(OLD, NEW)
    assert verdict.outputs["ttl_served"] == 3600
    assert verdict.outputs["sets"]["api.shop.example. A"]["rdatas"] == ["192.0.2.99", NEW]
    assert FLIP.plan(after).actions == ()
    assert FLIP.plan(after).reason.startswith("already done")


def test_the_flip_is_undone_exactly(lab: Lab) -> None:
    text = lab.primary.snapshot()
    before, after, _ = lab.do(FLIP)
    assert lab.undo(FLIP, before, after).state == before.state
    assert lab.primary.snapshot() == text


def test_somebody_elses_change_is_seen_as_drift(lab: Lab) -> None:
    before, after, _ = lab.do(FLIP)
    outside(lab, "mail.shop.example.", "A", ("192.0.2.200",))
    assert see(lab, FLIP).state != after.state
    actions = FLIP.undo(before)
    assert isinstance(actions, tuple)
    assert not lab.perform(actions[0]).ok


def test_the_flip_with_its_own_ttl_is_undone_with_the_old_one(lab: Lab) -> None:
    kind = DnsFlip.model_validate(BOTH | {"ttl": "2m"})
    text = lab.primary.snapshot()
    before, after, verdict = lab.do(kind)
    assert verdict.outputs["sets"]["mail.shop.example. A"]["ttl"] == 120
    lab.undo(kind, before, after)
    assert lab.primary.snapshot() == text


def test_only_the_named_sets_are_flipped(lab: Lab) -> None:
    kind = DnsFlip.model_validate(BOTH | {"names": ["mail", "api.shop.example"]})
    before, after, verdict = lab.do(kind)
    assert set(verdict.outputs["sets"]) == {"mail.shop.example. A", "api.shop.example. A"}
    assert OLD in lab.primary.snapshot()
    assert lab.undo(kind, before, after).state == before.state


def test_an_aaaa_left_behind_refuses_the_flip(lab: Lab) -> None:
    half = {"zone": "shop.example", "from": OLD, "to": NEW}
    kind = DnsFlip.model_validate(half)
    seen = see(lab, kind)
    assert kind.plan(seen).actions == ()
    assert "shop.shop.example. AAAA keeps 2001:db8:1::10" in kind.plan(seen).reason
    verdict = kind.verify(seen, seen)
    assert not verdict.ok
    assert not verdict.retry
    left = DnsFlip.model_validate(half | {"leave": ["shop AAAA", "shop https"]})
    assert lab.do(left)[2].ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": [NEW]}, {"from": ["east"], "to": [NEW]}, {"to": {OLD: NEW}},
        {"to": [NEW6, NEW]}, {"names": 5}, {"ttl": "soon"}, {"colour": "red"}, {"from": []},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DnsFlip.model_validate(BOTH | dict(wrong))


def test_differences_are_told_without_a_network(lab: Lab) -> None:
    records = {"shop.example.": lab.dns.records(lab.zone)}
    lab.primary.stop()
    ttls = LOWER.differences(records)
    assert all(c.after is not None and c.after.ttl == 60 for c in ttls)
    assert {c.key for c in FLIP.differences(records)} >= {
        ("shop.example.", "TXT"), ("shop.shop.example.", "HTTPS"), ("mail.shop.example.", "A")
    }
    assert FLIP.differences({}) == ()
    lab.primary.start()


def test_the_whole_move_and_the_way_back() -> None:
    """lower → wait → flip → drained → restore, then undone in reverse order: as it was."""
    with dns_lab(lag=3.0) as lab:
        text = lab.primary.snapshot()
        start = lab.clock.now()
        done: list[tuple[Kind, Observation, Observation]] = []
        steps: dict[str, Kind] = {
            "lower": LOWER, "safe": DnsWaitTtl(of="lower"), "flip": FLIP,
            "drained": DnsWaitTtl(of="flip"), "restore": DnsRestoreTtl(of="lower"),
        }
        for name, kind in steps.items():
            before, after, verdict = lab.do(kind)
            assert verdict.ok, f"{name}: {verdict.seen}"
            lab.given[name] = verdict.outputs
            done.append((kind, before, after))
        assert 3600 + 60 < lab.clock.now() - start < 3600 + 60 + 30
        moved = lab.primary.snapshot()
        assert moved == text.replace(OLD6, NEW6).replace(OLD, NEW)
        for kind, before, after in reversed(done):
            assert lab.undo(kind, before, after).state == before.state, kind
        assert lab.primary.snapshot() == text


def test_the_wait_is_less_the_time_already_gone(lab: Lab) -> None:
    lab.given["lower"] = lab.do(LOWER)[2].outputs
    wait = DnsWaitTtl(of="lower", skew="2s", extra="1m")
    first = see(lab, wait)
    (action,) = wait.plan(first).actions
    assert isinstance(action, WaitFor)
    assert action.until == pytest.approx(lab.clock.now() + 3600 + 2 + 60)
    assert "+ old TTL 3600s + skew 2s + extra 1m" in action.why
    lab.clock.move(4000)
    later = see(lab, wait)
    assert wait.plan(later).actions == ()
    assert wait.plan(later).reason.startswith("already done")
    assert wait.verify(later, later).ok
    assert later.state == first.state


def test_a_wait_after_nothing_was_lowered_is_none(lab: Lab) -> None:
    lab.given["lower"] = lab.do(DnsTtl(zone="shop.example", points_at=(OLD,), ttl="1d"))[2].outputs
    wait = DnsWaitTtl(of="lower")
    seen = see(lab, wait)
    assert wait.plan(seen).actions == ()
    assert wait.verify(seen, seen).ok


def test_a_server_that_goes_back_makes_it_unknown(lab: Lab) -> None:
    lab.given["lower"] = lab.do(LOWER)[2].outputs
    wait = DnsWaitTtl(of="lower")
    lab.clock.move(4000)
    outside(lab, "mail.shop.example.", "A", (OLD,), ttl=3600)
    seen = see(lab, wait)
    assert wait.plan(seen).actions == ()
    assert "the wait does not start" in wait.plan(seen).reason
    verdict = wait.verify(seen, seen)
    assert not verdict.ok
    assert "mail.shop.example. A with TTL 3600 again" in verdict.seen


def test_a_server_that_cannot_be_asked_makes_it_unknown(lab: Lab) -> None:
    lab.given["flip"] = lab.do(FLIP)[2].outputs
    wait = DnsWaitTtl(of="flip")
    lab.clock.move(4000)
    lab.secondary.stop()
    seen = see(lab, wait)
    assert not wait.verify(seen, seen).ok
    assert wait.plan(seen).actions == ()


def test_negative_answers_are_waited_for_too(lab: Lab) -> None:
    low = DnsTtl(zone="shop.example", points_at=(OLD,), ttl=60, names=("shop",))
    outside(lab, "shop.shop.example.", "A", (OLD,), ttl=100)
    outside(lab, "shop.shop.example.", "HTTPS", (f'1 . ipv4hint="{OLD}"',), ttl=100)
    lab.given["lower"] = lab.do(low)[2].outputs
    plain = see(lab, DnsWaitTtl(of="lower")).state["until"]
    negative = see(lab, DnsWaitTtl(of="lower", negative=True))
    assert negative.state["until"] == pytest.approx(plain + 200)
    assert "no such name" in negative.evidence["why"]


@pytest.mark.parametrize("kind", [DnsWaitTtl(of="gate"), DnsRestoreTtl(of="gate")])
def test_a_step_that_changed_no_sets_cannot_be_waited_for(lab: Lab, kind: Kind) -> None:
    with pytest.raises(NotFound):
        see(lab, kind)
    lab.given["gate"] = {"answer": "go"}
    with pytest.raises(NotFound, match="no record sets to go by"):
        see(lab, kind)
    assert kind.references() == ("gate",)


def test_restoring_keeps_the_records_of_today(lab: Lab) -> None:
    lab.given["lower"] = lab.do(LOWER)[2].outputs
    outside(lab, "mail.shop.example.", "A", ("192.0.2.200",))
    kind = DnsRestoreTtl(of="lower")
    before, after, verdict = lab.do(kind)
    assert verdict.ok, verdict.seen
    assert after.state["records"]["mail.shop.example. A"] == {
        "ttl": 3600, "rdatas": ["192.0.2.200"]
    }
    assert kind.plan(after).actions == ()
    assert lab.undo(kind, before, after).state == before.state
    gone = lab.dns.get(lab.zone, "mail.shop.example.", "A")
    lab.perform(ChangeRecordSet(zone="shop.example.", changes=(Change(before=gone, after=None),)))
    assert "gone since: mail.shop.example. A" in lab.do(kind)[2].seen


def test_what_every_server_answers_is_verified() -> None:
    with dns_lab(lag=5.0) as lab:
        kind = DnsVerify.model_validate({"zone": "shop.example", "name": "www", "expect": NEW})
        seen = see(lab, kind)
        assert not kind.verify(seen, seen).ok
        flip = see(lab, FLIP)
        for action in FLIP.plan(flip).actions:
            lab.perform(action)
        seen = see(lab, kind)
        assert f"(192.0.2.54) says {OLD}" in kind.verify(seen, seen).seen
        lab.clock.move(6)
        seen = see(lab, kind)
        verdict = kind.verify(seen, seen)
        assert verdict.ok
        assert verdict.outputs["answers"][0]["chain"]


@pytest.mark.parametrize(
    ("ask", "ok"),
    [
        ({"name": "@", "type": "mx", "expect": "10 MAIL.shop.example"}, True),
        ({"name": "nope", "expect": []}, True),
        ({"name": "mail", "expect": []}, False),
        ({"name": "shop", "type": "AAAA", "expect": "2001:DB8:1:0::10"}, True),
        ({"name": "@", "type": "TXT",
          "expect": [f"v=spf1 ip4:{OLD} a mx -all", '"site-verification=1"']}, True),
        ({"name": "@", "type": "TXT", "expect": ["site-verification=1"]}, False),
        ({"name": "api", "expect": ["192.0.2.99", OLD]}, True),
        ({"name": "shop", "type": "address", "expect": [OLD, OLD6]}, True),
        ({"name": "shop", "type": "address", "expect": [OLD, NEW6]}, False),
        ({"name": "shop", "type": "address", "expect": [NEW, OLD6]}, False),
        ({"name": "shop", "type": "address", "expect": OLD6}, True),
        ({"name": "mail", "type": "address", "expect": [OLD, OLD6]}, False),
        ({"name": "nope", "type": "address", "expect": []}, True),
        ({"name": "shop", "type": "address", "expect": []}, False),
    ],
)
def test_values_are_compared_by_meaning(lab: Lab, ask: Mapping[str, Any], ok: bool) -> None:
    kind = DnsVerify.model_validate({"zone": "shop.example", **ask})
    seen = see(lab, kind)
    assert kind.verify(seen, seen).ok is ok


def test_two_views_of_a_zone_are_not_looked_at_as_one() -> None:
    with pytest.raises(ValidationError, match="each view of it by itself"):
        DnsInventory.model_validate({"zone": ["a.example", "A.example@x"], "points_at": OLD})


def test_somebody_must_be_asked(lab: Lab) -> None:
    with pytest.raises(ValidationError, match="nobody to ask"):
        DnsVerify.model_validate({"name": "www", "expect": NEW})
    deaf = DnsVerify.model_validate(
        {"name": "www.shop.example", "expect": NEW, "resolvers": "192.0.2.250"}
    )
    seen = see(lab, deaf)
    assert seen.unknown == ("192.0.2.250: UNREACHABLE",)
    assert not deaf.verify(seen, seen).ok


def test_a_caching_resolver_never_gives_the_old_address_once_drained() -> None:
    with dns_lab(lag=4.0, resolver=True) as lab:
        flip_under_the_eyes_of_users(lab)


def flip_under_the_eyes_of_users(lab: Lab) -> None:
    def users() -> set[str]:
        names = ("@", "www.", "mail.", "a.tenant.")
        answers = [
            lab.dns.resolve("192.0.2.1", f"{name.strip('@')}shop.example.", "A") for name in names
        ]
        return {rdata for one in answers if one.rrset for rdata in one.rrset.rdatas}

    assert users() == {OLD}
    flip = FLIP.model_copy(update={"resolvers": ("192.0.2.1",)})
    for action in flip.plan(before := see(lab, flip)).actions:
        assert lab.perform(action).ok
    late = []
    for _ in range(90):
        late.append(users())
        after = see(lab, flip)
        verdict = flip.verify(before, after)
        if verdict.ok:
            break
        lab.clock.move(1)
    assert verdict.ok
    assert {OLD} in late
    assert any(one["rrset"]["rdatas"] == [OLD] for one in after.evidence["resolvers"]), (
        "the resolver's old answer is evidence, and does not fail the step"
    )
    lab.given["flip"] = verdict.outputs
    _, _, drained = lab.do(DnsWaitTtl(of="flip"))
    assert drained.ok
    assert users() == {NEW}


STAYS = DnsWaitBack(zone="shop.example", points_at=(NEW, NEW6), ttl=60, skew=5)


def test_without_a_flip_the_way_back_does_not_wait(lab: Lab) -> None:
    before, _, verdict = lab.do(STAYS)
    assert verdict.ok
    lab.do(LOWER)
    assert STAYS.undo_from(before, see(lab, STAYS)) == ()


def test_the_way_back_waits_until_the_new_answer_is_forgotten(lab: Lab) -> None:
    before, _, _ = lab.do(STAYS)
    lab.do(LOWER)
    flipped_from, flipped, _ = lab.do(FLIP)
    with pytest.raises(Errored, match=NEW):
        STAYS.undo_from(before, see(lab, STAYS))
    lab.undo(FLIP, flipped_from, flipped)
    now = see(lab, STAYS)
    (wait,) = STAYS.undo_from(before, now)  # type: ignore[misc]
    assert isinstance(wait, WaitFor)
    assert wait.until == lab.now() + 60 + 5
    assert "old TTL 60s" in wait.why
    lab.clock.wait(wait.until)
    later = now.model_copy(update={"at": lab.now()})
    assert STAYS.undo_from(before, later) == (), "what has passed is not waited for again"


def test_a_ttl_that_was_restored_is_waited_for(lab: Lab) -> None:
    before, _, _ = lab.do(STAYS)
    _, _, lowered = lab.do(LOWER)
    lab.given["lower-ttl"] = lowered.outputs
    flipped_from, _, _ = lab.do(FLIP)
    restored_from, restored, _ = lab.do(DnsRestoreTtl(of="lower-ttl"))
    restore = DnsRestoreTtl(of="lower-ttl")
    lab.undo(restore, restored_from, restored)
    lab.undo(FLIP, flipped_from, see(lab, FLIP))
    (wait,) = STAYS.undo_from(before, see(lab, STAYS))  # type: ignore[misc]
    assert isinstance(wait, WaitFor)
    assert wait.until == lab.now() + 3600 + 5


def test_a_server_that_still_gives_the_new_answer_starts_no_wait() -> None:
    with dns_lab(lag=30.0) as lab:
        before, _, _ = lab.do(STAYS)
        lab.do(LOWER)
        flipped_from, _, _ = lab.do(FLIP)
        for action in FLIP.undo(flipped_from):  # type: ignore[union-attr]
            assert lab.perform(action).ok
        with pytest.raises(Errored, match="ns2"):
            STAYS.undo_from(before, see(lab, STAYS))
        lab.clock.move(31)
        (wait,) = STAYS.undo_from(before, see(lab, STAYS))  # type: ignore[misc]
        assert wait.until == lab.now() + 65, "reckoned from when the last server was seen"
    unknown = see_without_secondary()
    with pytest.raises(Errored, match="nobody can tell"):
        STAYS.undo_from(before, unknown)


def see_without_secondary() -> Observation:
    """After a flip that was taken back, with a secondary that is gone."""
    with dns_lab() as lab:
        flipped_from, flipped, _ = lab.do(FLIP)
        lab.undo(FLIP, flipped_from, flipped)
        lab.secondary.stop()
        return see(lab, STAYS)
