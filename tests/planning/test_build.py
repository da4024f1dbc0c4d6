"""Whole plans from small runbooks: order, nodes, values, and every fault at its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runbook.errors import InvalidInput
from runbook.model.plan import Plan
from runbook.model.runbook import Budget, OutputSpec, Policy
from runbook.planning import build_plan
from runbook.planning.files import LocalFiles
from tests.planning.builders import KINDS, SECRETS, WINDOW, Book


def _after(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {step.id: step.after for step in plan.steps}


def test_the_written_order_is_the_default_and_after_makes_branches() -> None:
    book = Book().step("a").step("b").step("c", after=("a",)).step("d", after=("b", "c"))
    assert _after(book.plan()) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_a_step_written_before_what_it_waits_for_is_planned_after_it() -> None:
    book = Book().step("late", after=("early",)).step("early", after=())
    assert [step.id for step in book.plan().steps] == ["early", "late"]


def test_a_cycle_is_refused_with_its_way_round() -> None:
    [(message, path, _)] = (
        Book().step("a", after=("c",)).step("b", after=("a",)).step("c", after=("b",)).problems()
    )
    assert message == "steps wait for each other: b → c → a → b"
    assert path[-1] == "after"


def test_values_are_rendered_and_keep_their_type() -> None:
    plan = (
        Book(vars={"cmd": "ls", "n": 3}, secrets=SECRETS)
        .step("a", args={"command": "{{ cmd }} {{ vars.cmd }} {{ secrets.tsig }}",
                         "times": "{{ n }}"})
        .plan()
    )
    assert plan.nodes["a"].args == {"command": "ls ls ⟦secret:tsig⟧", "times": 3}
    assert not plan.nodes["a"].late
    assert plan.by_id["a"].scope == {}


def test_a_rendered_text_that_looks_like_a_template_is_not_rendered_again() -> None:
    plan = Book().step("a", args={"command": "docker ps '{{ '{{' }}.Names}}'"}).plan()
    assert plan.nodes["a"].args["command"] == "docker ps '{{.Names}}'"


def test_a_step_on_hosts_has_a_node_a_host_with_its_own_values() -> None:
    plan = (
        Book()
        .step("a", hosts="role=web and site=east", batch=(1, "50%"), soak=3.0, max_failures=1,
              args={"command": "ping {{ host.address }}"})
        .plan()
    )
    step = plan.by_id["a"]
    assert [node.id for node in step.nodes] == ["a@web1", "a@web2"]
    assert [node.args["command"] for node in step.nodes] == ["ping 10.0.0.2", "ping 10.0.0.3"]
    assert (step.ramp, step.batch, step.soak, step.max_failures) == ((1,), 1, 3.0, 1)
    assert step.estimate == 23.0, "two rounds of the kind's ten seconds, and the soak"


def test_hosts_may_be_a_list_and_then_keep_its_order() -> None:
    plan = Book().step("a", hosts=["web2", "db1"]).plan()
    assert [node.host for node in plan.by_id["a"].nodes] == ["web2", "db1"]


def test_hosts_may_come_from_a_template() -> None:
    plan = Book().step("a", hosts="{{ hosts.all('site=west') }}").plan()
    assert [node.host for node in plan.by_id["a"].nodes] == ["db2", "web3"]


@pytest.mark.parametrize(
    ("fields", "message", "place"),
    [
        ({"hosts": "wbe1"}, "did you mean 'web1'", "hosts"),
        ({"hosts": "web and db"}, "selects no host", "hosts"),
        ({"hosts": "web", "expect_hosts": 2}, "selects 3 (web1, web2, web3)", "expect_hosts"),
        ({"hosts": "{{ outputs.a.x }}"}, "cannot depend on outputs", "hosts"),
        ({"at": "window.start - 1h"}, "has no `window:`", "at"),
        ({"foreach": "{{ nope }}"}, "unknown name `nope`", "foreach"),
        ({"foreach": "{{ 3 }}"}, "wants a list, not 3", "foreach"),
        ({"when": "'false'"}, "gives the text 'false'", "when"),
        ({"when": "nope"}, "unknown name `nope`", "when"),
        ({"args": {"command": "{{ host.name }}"}}, "unknown name `host`", "command"),
        ({"args": {"command": "{{ secrets.nope }}"}}, "no secret `nope`", "command"),
        ({"args": {"command": "{{ x"}}, "not a valid template", "command"),
        ({"args": {"command": "{{ 1 / 0 }}"}}, "cannot be rendered", "command"),
        ({"args": {"comand": "ls", "command": "ls"}}, "unknown key `comand`", "comand"),
        ({"args": {}}, "`command` is missing", "with"),
        ({"args": {"command": "ls", "times": "many"}}, "`times`", "times"),
        ({"args": {"command": "ls", "file": "no/such"}}, "no file no/such", "file"),
        ({"args": {"command": "{{ outputs.nope.text }}"}}, "no step `nope`", "command"),
        ({"after": ("nope",)}, "no such step here", "after"),
        ({"verify": ({"kind": "run", "with": {}},)}, "a check only looks", "kind"),
        ({"verify": ({"http": "x", "stauts": 1},)}, "unknown key `stauts`", "stauts"),
        ({"verify": ({"nope": 1},)}, "a check names a `kind`", 0),
        ({"verify": ({"http": "x", "host": "nope"},)}, "no host 'nope'", "host"),
    ],
)
def test_faults_are_told_where_they_stand(
    fields: dict[str, object], message: str, place: str | int
) -> None:
    problems = Book().step("a").step("b", **fields).problems()
    assert [p for p in problems if message in p[0] and p[1][-1] == place], problems


def test_all_faults_come_together() -> None:
    book = Book().step("a", args={"command": "{{ x }}"}).step("b", hosts="nope").step("c", "nope")
    assert len(book.problems()) == 3


def test_did_you_mean() -> None:
    [(_, _, hint)] = Book(vars={"target": 1}).step("a", args={"command": "{{ taget }}"}).problems()
    assert "did you mean `target`?" in hint


def test_kinds_say_whether_they_work_on_hosts() -> None:
    [(message, path, hint)] = Book().step("a", "on.host", args={"path": "/x"}).problems()
    assert "has no `hosts:`" in message and path[-1] == "kind" and "hosts: role=" in hint
    [(message, path, _)] = Book().step("a").step("b", "wait", args={"of": "a"},
                                                hosts="web").problems()
    assert "takes no `hosts:`" in message and path[-1] == "hosts"


def test_no_host_is_right_where_none_is_expected() -> None:
    plan = Book().step("a", hosts="web and db", expect_hosts=0).plan()
    assert plan.by_id["a"].nodes == ()


def test_an_early_condition_is_decided_now() -> None:
    plan = Book(vars={"env": "lab"}).step("a", when="env == 'prod'", hosts="nope").step("b").plan()
    assert plan.by_id["a"].skipped == "`when: env == 'prod'` does not hold"
    assert plan.by_id["a"].nodes == ()
    assert plan.by_id["b"].after == ("a",)


def test_a_late_condition_is_kept() -> None:
    plan = Book(vars={"x": 1}).step("a").step("b", when="outputs.a.text == x").plan()
    assert plan.by_id["b"].when == "outputs.a.text == x"
    assert plan.by_id["b"].scope == {"x": 1}


def test_foreach_makes_named_steps_that_followers_wait_for() -> None:
    plan = (
        Book()
        .step("start")
        .step("each", foreach=["Big One", 2], args={"command": "{{ item }}"})
        .step("end")
        .plan()
    )
    assert _after(plan) == {
        "start": (), "each-big-one": ("start",), "each-2": ("start",),
        "end": ("each-big-one", "each-2"),
    }
    assert plan.nodes["each-big-one"].args["command"] == "Big One"


def test_foreach_numbers_steps_whose_items_have_no_name() -> None:
    plan = Book().step("e", foreach=[{"a": 1}, {"a": 2}],
                       args={"command": "x{{ item.a }}"}).plan()
    assert [step.id for step in plan.steps] == ["e-1", "e-2"]
    assert plan.nodes["e-2"].args["command"] == "x2"


def test_foreach_over_nothing_is_a_skipped_step() -> None:
    plan = Book().step("a").step("e", foreach=[]).step("z").plan()
    assert plan.by_id["e"].skipped == "`foreach` has no items"
    assert plan.by_id["z"].after == ("e",)


def test_an_expanded_id_that_is_taken_is_refused() -> None:
    problems = Book().step("e-1").step("e", foreach=[1]).problems()
    assert "two steps would have the id 'e-1'" in problems[0][0]


def test_moments_are_counted_from_the_window() -> None:
    plan = (
        Book(window=WINDOW)
        .step("a", at="window.start - 48h")
        .step("b", not_before="window.end - 10m")
        .step("c", at="2009-09-12T01:30")
        .plan()
    )
    assert plan.by_id["a"].at == WINDOW.start - 48 * 3600
    assert plan.by_id["b"].not_before == WINDOW.end - 600
    assert plan.by_id["c"].at == WINDOW.start + 1800


def test_undo_forms() -> None:
    plan = (
        Book()
        .step("a", undo="put back {{ runbook.id }}")
        .step("b", undo={"irreversible": "mail is sent"})
        .step("c", undo=False)
        .plan()
    )
    assert plan.nodes["a"].undo == "put back move"
    assert plan.by_id["b"].irreversible == "mail is sent"
    assert plan.by_id["c"].irreversible


def test_checks_in_short_and_long_form() -> None:
    plan = (
        Book()
        .step("a", hosts="db1", verify=(
            {"http": "http://{{ host.address }}/", "status": 204, "poll": {"every": "2s"}},
            {"command": "pg_isready", "host": "db2"},
            {"that": "1 + 1 == 2"},
            {"kind": "http.check", "with": {"url": "http://x/"}},
        ))
        .plan()
    )
    first, second, third, fourth = plan.nodes["a@db1"].verify
    assert first.args == {"url": "http://10.0.0.1/", "status": 204}
    assert first.poll is not None and first.poll.every == 2.0
    assert (second.kind, second.host) == ("assert", "db2")
    assert third.args == {"that": True}
    assert fourth.args == {"url": "http://x/"}


def test_policy_gives_what_happens_on_failure_and_a_step_may_differ() -> None:
    plan = Book(policy=Policy(on_failure="rollback")).step("a").step("b", on_failure="ask").plan()
    assert [step.on_failure for step in plan.steps] == ["rollback", "ask"]


def test_local_files_are_in_the_digest(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one")
    book = Book(directory=tmp_path).step("a", args={"command": "x", "file": "f"})
    first = book.plan()
    assert first.files == {"f": hashlib.sha256(b"one").hexdigest()}
    (tmp_path / "f").write_text("two")
    assert book.plan().digest != first.digest


def test_estimates_of_the_way_back() -> None:
    plan = Book().step("a", estimate=30.0).step("b", "wait", args={"of": "a"}).step(
        "c", "http.check", args={"url": "x"}).plan()
    assert [(s.estimate, s.estimate_undo) for s in plan.steps] == [
        (30.0, 30.0), (60.0, 0.0), (1.0, 0.0)]


def test_budgets_name_steps_or_calls() -> None:
    def budget(name: str) -> Budget:
        return Budget(name="b", from_step=name, from_edge="start", to_step="a", to_edge="end",
                      limit=1.0)

    assert not Book(budgets=(budget("a"),)).step("a").problems()
    [(message, path, hint)] = Book(budgets=(budget("aa"),)).step("a").problems()
    assert "no step 'aa'" in message and path == ("budgets", "b", "from") and "`a`" in hint
    [(_, _, hint)] = Book(budgets=(budget("e"),)).step("a").step("e", foreach=[1]).problems()
    assert "e-1" in hint


class TestOutputs:
    def test_a_late_value_is_kept_with_what_it_needs_and_no_more(self) -> None:
        plan = (
            Book(vars={"x": 1, "y": 2})
            .step("a-b")
            .step("c", args={"command": "{{ outputs.a_b.text }} {{ x }}"})
            .plan()
        )
        assert plan.nodes["c"].late
        assert plan.by_id["c"].scope == {"x": 1}

    def test_it_has_to_come_from_a_step_before(self) -> None:
        [(message, path, hint)] = (
            Book().step("a").step("b", after=(), args={"command": "{{ outputs.a.text }}"})
            .problems()
        )
        assert "does not come before" in message and path[-1] == "command"
        assert hint == "add a to `after:`"

    def test_a_step_that_comes_later_is_not_told_to_come_before(self) -> None:
        """With `after:` it would be a circle."""
        [(message, _, hint)] = (
            Book().step("a", args={"command": "{{ outputs.c.text }}"}).step("b").step("c")
            .problems()
        )
        assert message.startswith("step 'c' comes after this one")
        assert "add" not in hint and "move what reads them behind c" in hint

    def test_a_step_does_not_read_what_it_gives_itself(self) -> None:
        [(message, _, hint)] = (
            Book().step("a", args={"command": "{{ outputs.a.text }}"}).problems()
        )
        assert "reads what it gives itself" in message and "earlier step" in hint

    def test_it_has_to_be_an_output_of_the_step(self) -> None:
        [(message, _, hint)] = (
            Book().step("a", outputs={"texts": OutputSpec()})
            .step("b", args={"command": "{{ outputs.a.txt }}"}).problems()
        )
        assert "gives no output `txt`" in message and "text" in hint

    def test_of_many_hosts_the_host_has_to_be_said(self) -> None:
        book = Book().step("a", hosts="web")
        book.step("b", args={"command": "{{ outputs.a.text }}"})
        [(message, _, hint)] = book.problems()
        assert "runs on 3 hosts" in message
        assert hint == "outputs.a.by_host['web1'].text"
        right = Book().step("a", hosts="web").step(
            "b", args={"command": "{{ outputs.a.by_host['web1'].text }}"})
        assert not right.problems()
        wrong = Book().step("a", hosts="web").step(
            "b", args={"command": "{{ outputs.a.by_host['db1'].text }}"})
        assert "does not run on 'db1'" in wrong.problems()[0][0]

    def test_a_skipped_step_gives_none_unless_there_is_a_default(self) -> None:
        def book(text: str) -> Book:
            return Book().step("a", when=False).step("b", args={"command": text})

        assert "is skipped" in book("{{ outputs.a.text }}").problems()[0][0]
        assert not book("{{ outputs.a.text | default('x') }}").problems()

    def test_of_a_foreach_one_has_to_be_named(self) -> None:
        book = Book().step("e", foreach=["x", "y"]).step(
            "b", args={"command": "{{ outputs.e.text }}"})
        [(message, _, hint)] = book.problems()
        assert "several steps" in message and "outputs.e_x" in hint

    def test_early_texts_in_a_late_step_survive_late_rendering(self) -> None:
        from runbook.templating import render_tree
        from runbook.templating.outputs import late_scope

        plan = (
            Book().step("a").step("b", "wait", args={
                "of": "a", "note": "{{ '{{' }}.Names}} {{ outputs.a.text }}"})
            .step("c", "assert", args={"command": "{{ '{{' }}.Names}}",
                                       "that": "{{ outputs.a.text }}"}).plan()
        )
        step = plan.by_id["c"]
        scope = late_scope(plan, step, step.nodes[0], lambda _: {"text": "{{ 1 }}"})
        assert render_tree(step.nodes[0].args, scope, late=True) == {
            "command": "{{.Names}}", "that": "{{ 1 }}"}


def test_a_step_named_in_a_field_has_to_be_there_and_before() -> None:
    assert Book().step("a").step("w", "wait", args={"of": "a"}).plan()
    [(message, path, hint)] = Book().step("abc").step("w", "wait", args={"of": "abd"}).problems()
    assert "no step 'abd'" in message and path[-1] == "of" and "abc" in hint
    [(message, _, _)] = (
        Book().step("a").step("w", "wait", after=(), args={"of": "a"}).problems()
    )
    assert "does not come before" in message


def test_the_same_runbook_gives_the_same_digest() -> None:
    def book() -> Book:
        return Book(vars={"b": 1, "a": 2}).step("x", args={"command": "{{ a }}"}).step(
            "y", args={"command": "{{ outputs.x.text }}{{ a }}{{ b }}"})

    assert book().plan().digest == book().plan().digest


def test_an_unplannable_runbook_raises_before_anything_is_read() -> None:
    with pytest.raises(InvalidInput) as caught:
        build_plan(Book().step("a", "nope").runbook(), kinds=KINDS)
    assert "there is no kind 'nope'" in caught.value.render()


def test_a_device_is_no_local_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="/dev/zero is a device"):
        LocalFiles(tmp_path).add("/dev/zero")
