"""Putting the plan together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.errors import Position
from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep
from runbook.model.problems import Problems
from runbook.model.runbook import Runbook, ValuePath
from runbook.planning.expand import Expansion, expand
from runbook.planning.groups import Cycle, ancestors, in_order
from runbook.planning.rendering import Renderer
from runbook.planning.scope import Scope
from runbook.planning.spans import check_spans
from runbook.planning.step_references import StepReferences
from runbook.planning.steps import StepPlanner
from runbook.templating.references import references
from runbook.templating.values import did_you_mean


def build_plan(runbook: Runbook, *, kinds: Mapping[str, type[Kind]]) -> Plan:
    """The plan of a runbook. Raises InvalidInput with everything that is wrong.

    Reads nothing but the local files its kinds name, for their digests.
    """
    problems = Problems()
    renderer = Renderer(problems)
    made = expand(runbook, renderer, problems)
    after = {
        unit.id: tuple(
            dict.fromkeys(s for name in unit.after for s in made.groups.steps(name))
        )
        for unit in made.units
    }
    try:
        order = in_order(after)
    except Cycle as fault:
        first = next(unit for unit in made.units if unit.id in fault.steps)
        problems.add(fault.message, first.step.position("after"))
        problems.raise_if_any()
        raise
    links = StepReferences(made, problems)
    planner = StepPlanner(runbook, kinds, renderer, problems, links)
    steps: dict[str, PlannedStep] = {}
    for unit in made.units:
        planned = planner.plan(unit, after[unit.id])
        if planned is not None:
            steps[unit.id] = planned
    outputs, scopes = _playbook_outputs(made, renderer)
    if renderer.late_references or links.any:
        before = ancestors(order, after)
        links.check(steps, before, order, renderer.late_references, kinds)
    check_spans(made.units, steps, kinds, problems)
    _check_budgets(runbook, made, problems)
    problems.raise_if_any()
    return Plan(
        runbook=runbook.id,
        title=runbook.title,
        owner=runbook.owner,
        window=runbook.window,
        policy=runbook.policy,
        budgets=runbook.budgets,
        inventory=runbook.inventory,
        zones=runbook.zones,
        databases=runbook.databases,
        secrets=runbook.secrets,
        steps=tuple(steps[name] for name in order),
        playbook_outputs=outputs,
        playbook_scopes=scopes,
        directory=str(runbook.directory),
        files=dict(sorted(planner.files.digests.items())),
    )


def _playbook_outputs(
    made: Expansion, renderer: Renderer
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, Any]]]:
    """Templates of each call's outputs, and the variables they need."""
    outputs: dict[str, dict[str, str]] = {}
    scopes: dict[str, dict[str, Any]] = {}
    for call, (playbook, scope) in made.calls.items():
        if not playbook.outputs:
            continue

        def where(path: ValuePath, source: Any = playbook.source) -> Position:
            found: Position = source.at(("outputs", *path))
            return found

        facts = renderer.scan(playbook.outputs, scope, where, owner="")
        outputs[call] = dict(playbook.outputs)
        scopes[call] = scope.packed(_names_of(playbook.outputs, scope)) if facts.ok else {}
    return outputs, scopes


def _names_of(outputs: Mapping[str, str], scope: Scope) -> set[str]:
    names = {ref.path[0] for text in outputs.values() for ref in references(text)}
    return names | set(scope.late) if "params" in names else names


def _check_budgets(runbook: Runbook, made: Expansion, problems: Problems) -> None:
    """Both edges of a budget are steps or calls; a call is measured from the start of its
    first step to the end of its last."""
    names = {unit.id for unit in made.units} | set(made.calls)
    for budget in runbook.budgets:
        for edge, name in (("from", budget.from_step), ("to", budget.to_step)):
            if not name or name in names:
                continue
            steps = made.groups.steps(name)
            hint = (
                "`foreach` made several of it; name one: " + ", ".join(steps[:4])
                if steps else did_you_mean(name, names)
            )
            problems.add(
                f"budget {budget.name}: there is no step {name!r}",
                runbook.source.at(("budgets", budget.name, edge)), hint,
            )
