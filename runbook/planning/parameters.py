"""Arguments of a playbook call → the names its steps see."""

from __future__ import annotations

from typing import Any

from runbook.model.problems import Problems
from runbook.model.runbook import Parameter, Playbook, Step
from runbook.planning.rendering import Renderer
from runbook.planning.scope import Scope, playbook_scope
from runbook.templating.outputs import pack
from runbook.templating.scope import RESERVED
from runbook.templating.values import did_you_mean


def bind_parameters(
    full: str, step: Step, playbook: Playbook, scope: Scope, renderer: Renderer,
    problems: Problems,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(early values, late bindings) of the parameters of the call ``full``.

    Arguments are rendered in the caller's scope, defaults in that of the parameters before
    them. One that needs an output is bound late: ``{"value": …, "scope": …}``.
    """
    early: dict[str, Any] = {}
    late: dict[str, Any] = {}
    known = {parameter.name for parameter in playbook.parameters}
    for name in step.args:
        if name not in known:
            problems.add(
                f"playbook {playbook.name} has no parameter {name!r}",
                step.source.key_at((*step.path, "with", name)), did_you_mean(name, known),
            )
    for parameter in playbook.parameters:
        if parameter.name in RESERVED:
            problems.add(
                f"a parameter cannot be called {parameter.name!r}",
                playbook.source.at(("parameters", parameter.name)),
            )
        elif parameter.name in step.args:
            _bind(full, step, parameter, step.args[parameter.name], scope, renderer, early, late)
        elif parameter.required:
            problems.add(
                f"playbook {playbook.name} needs the parameter {parameter.name!r}",
                step.position("with"), parameter.help,
            )
            early[parameter.name] = None
        else:
            inner = playbook_scope(scope, early, late, prefix=f"{full}/", trail=scope.trail)
            _bind(full, step, parameter, parameter.default, inner, renderer, early, late)
    return early, late


def _bind(
    full: str, step: Step, parameter: Parameter, value: Any, scope: Scope, renderer: Renderer,
    early: dict[str, Any], late: dict[str, Any],
) -> None:
    name = parameter.name
    facts = renderer.scan(
        value, scope, lambda path: step.position("with", name, *path), owner=full
    )
    made = renderer.render(
        value, scope, lambda path: step.position("with", name, *path), facts, keep=True
    )
    if facts.late and facts.ok:
        late[name] = {"value": pack(made), "scope": scope.packed(facts.names)}
    else:
        early[name] = made
