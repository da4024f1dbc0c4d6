"""What is shown of each step, offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from runbook.model.dns import Change, RRset
from runbook.planning import build_plan
from runbook.planning.preview import preview
from tests.planning.builders import KINDS, Book, Inert


class Flip(Inert):
    """Raises every TTL by a number."""

    name: ClassVar[str] = "flip"
    example: ClassVar[str] = ""
    by: int

    def differences(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[Change, ...]:
        return tuple(
            Change(before=one, after=one.with_ttl(one.ttl + self.by))
            for sets in records.values() for one in sets
        )


def test_nodes_that_do_the_same_are_shown_once() -> None:
    plan = Book().step("a", hosts="web").step(
        "b", hosts="db", args={"command": "x {{ host.site }}"}).plan()
    found = preview(plan, KINDS)
    assert [(d.hosts, d.lines) for d in found["a"].doings] == [
        (("web1", "web2", "web3"), ("$ true",))]
    assert [(d.hosts, d.lines) for d in found["b"].doings] == [
        (("db1",), ("$ x east",)), (("db2",), ("$ x west",))]


def test_late_values_have_stand_ins_that_name_their_source() -> None:
    plan = (
        Book().step("a").step("b", hosts="db1", undo="u {{ outputs.a.text }}",
                              args={"command": "{{ outputs.a.text }} on {{ host.name }}"},
                              verify=({"that": "outputs.a.text == 'x'"},))
        .plan()
    )
    found = preview(plan, KINDS)["b"]
    [doing] = found.doings
    assert doing.lines == ("$ ‹text of a› on db1",)
    assert doing.verify == ("assert: that: {{ outputs.a.text == 'x' }}",)
    assert doing.undo == "u ‹text of a›"
    assert found.late == (("a", "text"),)


def test_a_stand_in_that_does_not_fit_its_field_is_shown_all_the_same() -> None:
    plan = Book().step("a").step(
        "b", args={"command": "x", "times": "{{ outputs.a.text }}"}).plan()
    assert preview(plan, KINDS)["b"].doings[0].lines == ("command: x", "times: ‹text of a›")


def test_conditions_of_calls_are_written_out() -> None:
    book = Book().playbook("p", [("w", "run", {}), ("x", "run", {"when": "outputs.w.text"})])
    plan = book.step("a").step("c", playbook="p", when="outputs.a.text == 1").plan()
    found = preview(plan, KINDS)
    assert found["c/w"].when == "outputs.a.text == 1"
    assert found["c/x"].when == "(outputs.a.text == 1) and (outputs.w.text)"


def test_differences_follow_one_another() -> None:
    kinds = {**KINDS, "flip": Flip}
    book = Book().step("one", "flip", args={"by": 1}).step("two", "flip", args={"by": 2})
    plan = build_plan(book.runbook(), kinds=kinds)
    www = RRset(name="www.shop.example.", rtype="A", ttl=10, rdatas=("192.0.2.1",))
    found = preview(plan, kinds, {"shop.example.": (www,)})
    assert found["one"].changes == (Change(before=www, after=www.with_ttl(11)),)
    assert found["two"].changes == (Change(before=www.with_ttl(11), after=www.with_ttl(13)),)
    assert preview(plan, kinds)["one"].changes == ()
