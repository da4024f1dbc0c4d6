"""What an amendment may change in a run, and what the run does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.engine.amend import amended, changes, check_may_amend
from runbook.errors import Refused
from runbook.model.database import Database
from runbook.model.dns import Zone
from runbook.model.inventory import Host, Inventory
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runstate import RunState
from runbook.model.secrets import SecretRef
from runbook.model.state import NodeState
from tests.engine.miniworld import Lab, step
from tests.engine.test_review import say

BEFORE = {"a": "0", "b": "0", "c": "0"}


def put(name: str, value: str, *after: str) -> PlannedStep:
    return step(name, "put", args={"key": name, "value": value}, after=after, on_failure="hold")


def plan(*steps: PlannedStep) -> Plan:
    return Plan(runbook="night", steps=steps)


def amend(lab: Lab, new: Plan) -> list[str]:
    """As the command does; the changes in words. Raises Refused."""
    check_may_amend(lab.state)
    found = changes(lab.state, new)
    lease = lab.store.acquire(lab.run_id, "ada")
    try:
        lease.append([amended(lab.state, new, found, who="ada", why="a typo")], ts=1.0)
    finally:
        lease.release()
    return [change.text for change in found]


def held_at_a_check(directory: Path) -> Lab:
    """``a`` is done; the check after it fails, as it was written wrongly."""
    lab = Lab(directory, plan(
        put("a", "1"), step("is", "is", args={"key": "a", "value": "2"}, after=["a"],
                            on_failure="hold"), put("b", "1", "is")), BEFORE)
    lab.drive()
    assert lab.state.nodes["is"].state is NodeState.FAILED
    return lab


def test_a_check_that_failed_has_not_begun_and_may_change(tmp_path: Path) -> None:
    lab = held_at_a_check(tmp_path)
    mended = plan(put("a", "1"), step("is", "is", args={"key": "a", "value": "1"}, after=["a"]),
                  put("b", "2", "is"))
    assert amend(lab, mended) == [
        "step is: nodes.is.args.value: 2 → 1", "step is: on_failure: hold → rollback",
        "step b: nodes.b.args.value: 1 → 2",
    ]
    lab.drive()
    assert lab.ended
    assert lab.outside.values == {"a": "1", "b": "2", "c": "0"}
    assert lab.state.plan.digest == mended.digest
    assert [(a.who, a.why, a.was, a.digest) for a in lab.state.amendments] == [
        ("ada", "a typo", lab.plan.digest, mended.digest)]


def test_what_was_done_cannot_change_until_it_is_taken_back(tmp_path: Path) -> None:
    lab = held_at_a_check(tmp_path)
    other = plan(put("a", "7"), put("b", "1", "a"))
    with pytest.raises(Refused, match=r"step a: nodes.a.args.value: 1 → 7 \(a is verified\)"):
        amend(lab, other)
    assert lab.state.amendments == []
    amend(lab, plan(put("a", "1").model_copy(update={"title": "First"}), *lab.plan.steps[1:]))
    lab.drive(back=True, setup=say(lab, "rollback"))
    with pytest.raises(Refused, match="rolled back"):
        amend(lab, other)


def test_a_step_that_was_taken_back_may_change(tmp_path: Path) -> None:
    lab = Lab(tmp_path, plan(put("a", "1"), put("b", "1", "a"), put("c", "1", "b")), BEFORE)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="a"))
    assert lab.state.step_state("b") is NodeState.ROLLED_BACK
    amend(lab, plan(put("a", "1"), put("b", "5", "a")))
    assert "c" not in lab.state.nodes
    lab.drive()
    assert lab.outside.values == {"a": "1", "b": "5", "c": "0"}
    lab.drive(back=True, setup=say(lab, "rollback"))
    assert lab.outside.values == BEFORE


def test_a_step_that_comes_back_goes_on_counting(tmp_path: Path) -> None:
    """Its keys must not be those of its earlier life: they took effect already."""
    whole = plan(put("a", "1"), put("b", "1", "a"))
    lab = Lab(tmp_path, whole, BEFORE)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="a"))
    amend(lab, plan(put("a", "1")))
    amend(lab, whole)
    assert lab.state.nodes["b"].attempt == 1
    lab.drive()
    assert lab.ended
    assert lab.outside.values["b"] == "1"
    assert len(lab.state.amendments) == 2
    assert lab.state.amendments[0].digest == lab.state.amendments[1].was


def night(*, moved: str = "", secret: str = "", freeze: str = "east", zone: str = "shop.example",
          **more: object) -> Plan:
    """``freeze`` and ``flip`` have things below them. ``moved``, ``secret``: those that differ."""
    def host(name: str, **fields: str) -> Host:
        return Host(name=name, address="192.0.2.99" if name == moved else "192.0.2.1", **fields)

    def reference(name: str) -> SecretRef:
        return SecretRef(name=name, source="env", argument="B" if name == secret else "A")

    return Plan(
        runbook="night",
        inventory=Inventory(hosts=(
            host("east-db", jump="bastion", become="sudo"), host("bastion", become="jumper"),
            host("west-db"), host("east"),
        )),
        zones=(Zone(name="shop.example.", key="tsig"),
               Zone(name="shop.example.", view="inside", key="inner")),
        databases=(
            Database(name="east", engine="postgres", host="east-db", port=5432, password="db"),
            Database(name="west", engine="postgres", host="west-db", port=5432, password="spare"),
        ),
        secrets=tuple(map(reference, ("db", "sudo", "jumper", "tsig", "inner", "spare"))),
        steps=(step("freeze", "postgres.freeze", args={"database": freeze}),
               step("flip", "dns.flip", args={"zone": zone}, after=["freeze"]),
               step("later", "postgres.freeze", args={"database": "west"}, after=["flip"])),
    ).model_copy(update=more)


def begun(plan: Plan, *steps: str) -> RunState:
    state = RunState.empty("night-1", plan)
    for name in steps:
        state.nodes[name].state = NodeState.VERIFIED
        state.nodes[name].intended = True
    return state


@pytest.mark.parametrize(("what", "new", "why"), [
    ("host east-db", night(moved="east-db"), "freeze has begun with database east"),
    ("host bastion", night(moved="bastion"), "freeze has begun with host east-db"),
    ("secret db", night(secret="db"), "freeze has begun with database east"),
    ("secret sudo", night(secret="sudo"), "freeze has begun with host east-db"),
    ("secret jumper", night(secret="jumper"), "freeze has begun with host bastion"),
    ("secret tsig", night(secret="tsig"), "flip has begun with zone shop.example."),
])
def test_what_a_begun_step_stands_on_stays_however_far_below(
    what: str, new: Plan, why: str
) -> None:
    state = begun(night(), "freeze", "flip")
    (change,) = changes(state, new)
    assert (change.what, change.refused) == (what, f"{why}, which stands on it")
    with pytest.raises(Refused, match=f"{what}.*{why}"):
        amended(state, new, (change,), who="ada", why="x")
    assert [c.refused for c in changes(begun(night()), new)] == [""]


@pytest.mark.parametrize("new", [
    night(moved="west-db"), night(secret="spare"), night(secret="inner"),
])
def test_what_only_later_steps_stand_on_may_change(new: Plan) -> None:
    assert [c.refused for c in changes(begun(night(), "freeze", "flip"), new)] == [""]


@pytest.mark.parametrize("zone", ["shop.example", "shop.example.", "Shop.Example"])
def test_a_zone_is_known_however_it_is_written(zone: str) -> None:
    other = tuple(one.model_copy(update={"servers": ("192.0.2.7",)}) for one in night().zones)
    found = changes(begun(night(zone=zone), "flip"), night(zone=zone, zones=other))
    assert [(c.what, c.refused) for c in found] == [
        ("zone shop.example.", "flip has begun with it"), ("zone shop.example@inside", "")]
    inside = "shop.example@INSIDE"
    found = changes(begun(night(zone=inside), "flip"), night(zone=inside, zones=other))
    assert [c.refused for c in found] == ["", "flip has begun with it"]


def test_a_playbook_output_that_an_undo_is_made_of_stays() -> None:
    def with_calls(where: str, inner: str, spare: str) -> Plan:
        made = Node(id="use", step="use", late=True, args={"command": "true"},
                    undo="back {{ outputs.outer.where }}")
        return Plan(
            runbook="night",
            steps=(step("outer/deep/look", "log"),
                   step("use", "log").model_copy(update={"nodes": (made,)})),
            playbook_outputs={"outer/deep": {"where": inner},
                              "outer": {"where": where, "spare": spare}},
            playbook_scopes={"outer": {"__prefix__": "outer/"},
                             "outer/deep": {"__prefix__": "outer/deep/"}},
        )

    old = with_calls("{{ outputs.deep.where | default(1) }}", "{{ outputs.look.a }}", "x")
    state = begun(old, "use")
    reads = "use has begun and reads it"
    assert [(c.what, c.refused) for c in changes(
        state, with_calls("{{ 2 }}", "{{ outputs.look.b }}", "y"))] == [
        ("output where of outer/deep", reads), ("output where of outer", reads),
        ("output spare of outer", "")]
    scopes = old.playbook_scopes | {"outer": {"__prefix__": "outer/", "x": 1}}
    (change,) = changes(state, old.model_copy(update={"playbook_scopes": scopes}))
    assert change.refused == reads


def test_another_ssh_config_leads_a_begun_step_elsewhere() -> None:
    def reached_by(**files: object) -> Plan:
        return night(inventory=night().inventory.model_copy(update=files))

    state = begun(night(), "freeze")
    (change,) = changes(state, reached_by(ssh_config="other"))
    assert change.refused.startswith("freeze has begun with")
    assert [c.refused for c in changes(state, reached_by(known_hosts=("more",)))] == [""]
