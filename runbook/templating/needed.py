"""Which outputs of a step the rest of a plan needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.plan import Plan, PlannedStep, output_key
from runbook.templating import is_template
from runbook.templating.outputs import LATE, PREFIX
from runbook.templating.references import references


def outputs_needed(plan: Plan, step: str) -> set[str]:
    """Names of the step's outputs that other steps' late values cannot do without."""
    return {
        name
        for other in plan.steps
        if other.id != step and other.skipped is None
        for target, name in outputs_read(plan, other)
        if target == step
    }


def outputs_read(plan: Plan, step: PlannedStep) -> set[tuple[str, str]]:
    """(step, output) of everything a step's late values read and have no default for."""
    found: set[tuple[str, str]] = set()
    for text, prefix in _late_texts(step):
        found |= read_by(plan, text, prefix)
    return found


def read_by(plan: Plan, text: str, prefix: str) -> set[tuple[str, str]]:
    """(step, output) of what one late text reads; through the outputs of playbook calls."""
    found: set[tuple[str, str]] = set()
    for reference in references(text):
        path = reference.path
        if path[0] != "outputs" or len(path) < 3 or reference.guarded:
            continue
        keys = plan.output_keys.get(output_key(prefix + path[1]), ())
        target = next((one for one in keys if one.startswith(prefix)), None)
        if target is None:
            continue
        if target in plan.by_id:
            name = path[4] if path[2] == "by_host" and len(path) > 4 else path[2]
            if name != "by_host":
                found.add((target, name))
        elif path[2] in plan.playbook_outputs[target]:
            found |= read_by(plan, plan.playbook_outputs[target][path[2]], f"{target}/")
    return found


def playbook_outputs_read(plan: Plan, step: PlannedStep) -> set[tuple[str, str]]:
    """(call, output) of every output of a called playbook that a late value of the step may read,
    also where it has a default for it, and of what these read in turn."""
    found: set[tuple[str, str]] = set()
    waiting = list(_late_texts(step))
    while waiting:
        text, prefix = waiting.pop()
        fresh = _calls_in(plan, text, prefix) - found
        found |= fresh
        for call, name in fresh:
            waiting.append((plan.playbook_outputs[call][name], f"{call}/"))
            waiting += _bound(plan.playbook_scopes.get(call, {}))
    return found


def _calls_in(plan: Plan, text: str, prefix: str) -> set[tuple[str, str]]:
    """A path that ends before the output, or before the call, may mean each of them."""
    found: set[tuple[str, str]] = set()
    for reference in references(text):
        root, *path = reference.path
        if root != "outputs":
            continue
        for call, outputs in plan.playbook_outputs.items():
            if not call.startswith(prefix):
                continue
            if not path or output_key(call) == output_key(prefix + path[0]):
                found |= {(call, name) for name in outputs if path[1:2] in ([], [name])}
    return found


def _late_texts(step: PlannedStep) -> Iterator[tuple[str, str]]:
    """Every late text of a step, with the prefix of the playbook it was written in."""
    prefix = str(step.scope.get(PREFIX, ""))
    if step.when is not None:
        yield "{{ " + step.when + " }}", prefix
    for node in step.nodes:
        trees: list[Any] = [check.args for check in (*node.requires, *node.verify) if check.late]
        if node.late:
            trees += [node.args, node.undo]
        for tree in trees:
            yield from ((text, prefix) for text in texts(tree))
    yield from _bound(step.scope)


def _bound(scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for binding in scope.get(LATE, {}).values():
        prefix = str(binding["scope"].get(PREFIX, ""))
        yield from ((text, prefix) for text in texts(binding["value"]))
        yield from _bound(binding["scope"])


def texts(value: Any) -> Iterator[str]:
    """Every text in a tree that is a template."""
    if isinstance(value, str):
        if is_template(value):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)
