"""States that span steps: what one step begins, a later one has to end on every way forward.

Going back takes care of itself, by the undo of the step that began it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.model.kind import Kind
from runbook.model.plan import PlannedStep
from runbook.model.problems import Problems
from runbook.planning.expand import Unit
from runbook.planning.scope import CALLER_WHEN
from runbook.templating.outputs import LATE


def check_spans(
    units: Sequence[Unit], steps: Mapping[str, PlannedStep], kinds: Mapping[str, type[Kind]],
    problems: Problems,
) -> None:
    """Every step whose kind has something to be ended (:meth:`Kind.settled_by`) is followed by a
    step that ends it: on the same hosts, under the same condition, and not left to fail."""
    written = {unit.id: unit for unit in units}
    ends: dict[tuple[str, str], list[PlannedStep]] = {}
    for step in steps.values():
        for begun in {name for one in _made(step, kinds) for name in one.references()}:
            ends.setdefault((step.kind, begun), []).append(step)
    for step in steps.values():
        wanted = {one.settled_by() for one in _made(step, kinds)} - {""}
        for kind in sorted(wanted):
            found = ends.get((kind, step.id), [])
            if not found and kinds[step.kind].settled_in_plan:
                problems.add(
                    f"what step {step.id!r} begins is never ended: no {kind} step names it",
                    written[step.id].step.position("kind"),
                    f"add a step of kind {kind} after it, with `of: {written[step.id].step.id}`",
                )
            for end in found:
                _check_end(step, end, written, problems)


def _made(step: PlannedStep, kinds: Mapping[str, type[Kind]]) -> list[Kind]:
    """The kind with the arguments of each node: as they are, since some may be known only later
    and all have been checked."""
    kind = kinds[step.kind]
    if kind.settled_by is Kind.settled_by and kind.references is Kind.references:
        return []
    return [kind.model_construct(**node.args) for node in step.nodes]


def _check_end(
    step: PlannedStep, end: PlannedStep, written: Mapping[str, Unit], problems: Problems
) -> None:
    at = written[end.id].step
    if _condition(step) != _condition(end):
        problems.add(
            f"step {end.id!r} ends what {step.id!r} begins, but under another condition",
            at.position("when"), "give both the same `when:`, or none",
        )
    if {node.host for node in step.nodes} != {node.host for node in end.nodes}:
        problems.add(
            f"step {end.id!r} ends what {step.id!r} begins, but on other hosts",
            at.position("hosts"), "give both the same `hosts:`",
        )
    if end.on_failure == "continue" or end.max_failures:
        problems.add(
            f"step {end.id!r} ends what {step.id!r} begins, so it cannot be left to fail",
            at.position("on_failure" if end.on_failure == "continue" else "max_failures"),
            "say `on_failure: hold`, or `ask`, and no `max_failures`",
        )


def _condition(step: PlannedStep) -> tuple[Any, ...]:
    late = step.scope.get(LATE, {})
    return (step.when, late.get(CALLER_WHEN))
