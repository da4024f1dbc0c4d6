"""Playbook calls: ids, order, parameters, conditions, outputs."""

from __future__ import annotations

from typing import Any

from runbook.model.plan import Plan
from runbook.planning import without
from runbook.templating import evaluate, render_tree
from runbook.templating.needed import outputs_needed
from runbook.templating.outputs import late_scope, outputs_scope
from tests.planning.builders import Book


def _late_args(plan: Plan, node: str, outputs: dict[str, dict[str, Any]]) -> Any:
    found = plan.nodes[node]
    scope = late_scope(plan, plan.by_id[found.step], found, lambda step: outputs[step])
    return render_tree(found.args, scope, late=True)


def _two_ends(book: Book) -> Book:
    return book.playbook("p", [
        ("in", "run", {}), ("left", "run", {"after": ("in",)}), ("right", "run", {"after": ("in",)})
    ])


def test_ids_are_scoped_and_order_goes_through() -> None:
    plan = _two_ends(Book()).step("a").step("call", playbook="p").step("z").plan()
    assert {s.id: s.after for s in plan.steps} == {
        "a": (), "call/in": ("a",), "call/left": ("call/in",), "call/right": ("call/in",),
        "z": ("call/left", "call/right"),
    }


def test_calls_nest() -> None:
    book = _two_ends(Book()).playbook("q", [("x", None, {"playbook": "p"}), ("y", "run", {})])
    plan = book.step("a").step("c", playbook="q").step("z").plan()
    assert {s.id: s.after for s in plan.steps} == {
        "a": (), "c/x/in": ("a",), "c/x/left": ("c/x/in",), "c/x/right": ("c/x/in",),
        "c/y": ("c/x/left", "c/x/right"), "z": ("c/y",),
    }


def test_a_playbook_that_calls_itself_is_refused() -> None:
    book = Book().playbook("p", [("x", None, {"playbook": "p"})]).step("a", playbook="p")
    assert "calls itself" in book.problems()[0][0]


def test_parameters_are_all_that_is_seen_inside() -> None:
    book = Book(vars={"v": 1}).playbook(
        "p", [("x", "run", {"args": {"command": "{{ who }} {{ params.who }} {{ much }}"}})],
        {"who": ..., "much": "{{ who }}!"},
    )
    plan = book.step("c", playbook="p", args={"who": "{{ v }}me"}).plan()
    assert plan.nodes["c/x"].args["command"] == "1me 1me 1me!"
    blind = Book(vars={"v": 1}).playbook("p", [("x", "run", {"args": {"command": "{{ v }}"}})])
    [(message, path, hint)] = blind.step("c", playbook="p").problems()
    assert message == "unknown name `v`"
    assert path[:2] == ("playbooks", "p") and "only its parameters" in hint and "by c" in hint


def test_arguments_have_to_be_parameters() -> None:
    book = Book().playbook("p", [("x", "run", {})], {"host": 1, "name": ...})
    messages = {p[0] for p in book.step("c", playbook="p", args={"nmae": 1}).problems()}
    assert messages == {
        "playbook p has no parameter 'nmae'", "playbook p needs the parameter 'name'",
        "a parameter cannot be called 'host'",
    }


def test_what_makes_no_sense_on_a_call_is_refused() -> None:
    book = Book().playbook("p", [("x", "run", {})]).step("c", playbook="p", hosts="web", batch=(2,))
    assert {p[1][-1] for p in book.problems()} == {"hosts", "batch"}


def test_a_host_stays_a_host_inside() -> None:
    book = Book().playbook(
        "p", [("x", "run", {"hosts": "{{ on }}", "args": {"command": "{{ on.address }}"}})],
        {"on": ...},
    )
    plan = book.step("c", playbook="p", args={"on": "{{ hosts.one('db and east') }}"}).plan()
    assert plan.nodes["c/x@db1"].args == {"command": "10.0.0.1"}


def test_a_parameter_from_an_output_is_bound_late_in_the_callers_scope() -> None:
    book = Book(vars={"v": "V"}).playbook(
        "p", [
            ("a", "run", {"args": {"command": "{{ x }} {{ params.x }} {{ on.address }}"}}),
            ("b", "run", {"args": {"command": "{{ outputs.a.text }} {{ x }}"}}),
        ], {"x": ..., "on": ...},
    )
    book.step("a").step(
        "c", playbook="p",
        args={"x": "{{ outputs.a.text }}-{{ v }}", "on": "{{ hosts.one('db1') }}"},
    )
    plan = book.plan()
    outputs = {"a": {"text": "outer"}, "c/a": {"text": "inner"}}
    assert _late_args(plan, "c/a", outputs) == {"command": "outer-V outer-V 10.0.0.1"}
    assert _late_args(plan, "c/b", outputs) == {"command": "inner outer-V"}


def test_outputs_of_a_playbook() -> None:
    book = Book().playbook(
        "p", [("x", "run", {})], {"k": ...}, {"lsn": "{{ outputs.x.text }}/{{ params.k }}"}
    ).playbook("q", [("in", None, {"playbook": "p", "args": {"k": 2}})], {},
               {"deep": "{{ outputs.in.lsn }}"})
    book.step("c-1", playbook="p", args={"k": 1}).step("d", playbook="q")
    book.step("z", args={"command": "{{ outputs.c_1.lsn }} {{ outputs.d.deep }}"})
    plan = book.plan()
    outputs = {"c-1/x": {"text": "A"}, "d/in/x": {"text": "B"}}
    assert _late_args(plan, "z", outputs) == {"command": "A/1 B/2"}
    assert outputs_needed(plan, "d/in/x") == {"text"}


def test_an_output_called_items_is_an_output() -> None:
    plan = Book().step("a", "run").plan()
    assert outputs_scope(plan, lambda _: {"items": 7})["a"]["items"] == 7
    assert evaluate("outputs.a.items",
                    {"outputs": outputs_scope(plan, lambda _: {"items": 7})}) == 7


def test_unknown_outputs_of_a_playbook() -> None:
    book = Book().playbook("p", [("x", "run", {})], {}, {"lsn": "{{ outputs.x.text }}"})
    book.step("c", playbook="p").step("z", args={"command": "{{ outputs.c.lns }}"})
    [(message, _, hint)] = book.problems()
    assert message == "playbook p has no output `lns`" and "`lsn`" in hint
    bad = Book().playbook("p", [("x", "run", {})], {}, {"lsn": "{{ outputs.y.text }}"})
    [(message, path, _)] = bad.step("c", playbook="p").problems()
    assert message == "there is no step `y`" and path == ("outputs", "lsn")


def test_a_call_can_be_skipped_as_a_whole() -> None:
    plan = _two_ends(Book()).step("c", playbook="p", when="1 == 2").step("z").plan()
    assert {s.skipped for s in plan.steps if s.id.startswith("c/")} == {
        "`when: 1 == 2` does not hold"}
    assert plan.by_id["z"].skipped is None


def test_late_conditions_of_calls_and_steps_must_both_hold() -> None:
    inner = Book().playbook("p", [
        ("w", "run", {}), ("x", "run", {"when": "outputs.w.text == 'i'"})])
    plan = inner.step("a").step("c", playbook="p", when="outputs.a.text == 'o'").plan()
    step = plan.by_id["c/x"]
    for outer, within, holds in (("o", "i", True), ("o", "n", False), ("n", "i", False)):
        outputs = {"a": {"text": outer}, "c/w": {"text": within}}
        scope = late_scope(plan, step, None, lambda name, o=outputs: o[name])
        assert evaluate(str(step.when), scope) is holds
    assert plan.by_id["c/w"].when == "caller_when"


def test_fields_naming_steps_are_completed() -> None:
    book = Book().playbook("p", [("t", "run", {}),
                                 ("w", "wait", {"args": {"of": "t", "note": "t"}})])
    plan = book.step("t").step("c", playbook="p").plan()
    assert plan.nodes["c/w"].args == {"of": "c/t", "note": "t"}


def test_tags_owner_and_failure_policy_are_taken_over() -> None:
    book = Book().playbook("p", [("x", "run", {"tags": ("in",)}),
                                 ("y", "run", {"on_failure": "hold"})])
    plan = book.step("c", playbook="p", tags=("out",), owner="dba", on_failure="continue",
                     run_as="root", point_of_no_return=True).plan()
    x, y = plan.steps
    assert (x.tags, x.owner, x.on_failure, x.run_as) == (("out", "in"), "dba", "continue", "root")
    assert y.on_failure == "hold"
    assert (x.point_of_no_return, y.point_of_no_return) == (False, True)


def test_a_call_may_be_repeated() -> None:
    book = Book().playbook("p", [("x", "run", {"args": {"command": "{{ n }}x"}})], {"n": ...})
    plan = book.step("c", playbook="p", foreach=["a", "b"],
                     args={"n": "{{ item }}"}).step("z").plan()
    assert [n.args["command"] for n in plan.nodes.values()] == ["ax", "bx", "true"]
    assert plan.by_id["z"].after == ("c-a/x", "c-b/x")


def test_a_plan_without_some_steps() -> None:
    import pytest

    from runbook.errors import NotFound, Refused

    book = _two_ends(Book()).step("a").step("c", playbook="p").step(
        "z", args={"command": "{{ outputs.a.text }}"})
    plan = book.plan()
    less = without(plan, ["c"])
    assert {s.id for s in less.steps if s.skipped} == {"c/in", "c/left", "c/right"}
    assert less.digest != plan.digest
    assert without(plan, []) is plan
    with pytest.raises(Refused, match="later steps need its outputs text"):
        without(plan, ["a"])
    with pytest.raises(NotFound, match="no step 'nope'"):
        without(plan, ["nope"])
