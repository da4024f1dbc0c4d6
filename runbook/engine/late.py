"""Rendering what could only be known now: values from the outputs of earlier steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.engine.context import RunContext
from runbook.model.plan import Node, PlannedStep
from runbook.templating import evaluate, render_tree
from runbook.templating.outputs import late_scope


def render_late(
    ctx: RunContext, step: PlannedStep, node: Node, args: Mapping[str, Any], late: bool
) -> dict[str, Any]:
    """The arguments with every late template rendered. Raises TemplateFault."""
    if not late:
        return dict(args)
    scope = late_scope(ctx.plan, step, node, ctx.state.step_outputs)
    rendered: dict[str, Any] = render_tree(args, scope, late=True)
    return rendered


def condition_holds(ctx: RunContext, step: PlannedStep) -> bool:
    """Value of a late ``when:``. Raises TemplateFault."""
    if step.when is None:
        return True
    scope = late_scope(ctx.plan, step, step.nodes[0], ctx.state.step_outputs)
    return bool(evaluate(step.when, scope))
