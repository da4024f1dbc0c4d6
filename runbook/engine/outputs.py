"""Taking named, typed outputs from what a command printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from runbook.errors import Refused
from runbook.model.actions import ActionResult
from runbook.model.plan import Plan
from runbook.model.runbook import OutputSpec
from runbook.templating.needed import outputs_needed


class OutputMissing(ValueError):
    """A declared output is not in what the command printed."""


def given_outputs(
    plan: Plan, step: str, given: Mapping[str, Any], *, observed: bool
) -> dict[str, Any]:
    """Outputs that a person gives for a step that gives none itself, each of its declared type.

    ``observed``: what the step's kind sees for itself it will see (the step counts as done); only
    what its command would have printed has to be given. Raises Refused when a later step needs an
    output that is not given, and for a value of the wrong type.
    """
    specs = plan.by_id[step].outputs
    needed = outputs_needed(plan, step)
    missing = sorted((needed & set(specs) if observed else needed) - set(given))
    if missing:
        raise Refused(
            f"later steps need outputs of {step}: {', '.join(missing)}",
            hint="give each of them: " + " ".join(f"--output {name}=VALUE" for name in missing),
        )
    try:
        return {name: _typed(name, specs[name], value) if name in specs else value
                for name, value in given.items()}
    except OutputMissing as fault:
        raise Refused(str(fault), hint="give it as --output NAME=VALUE of that type") from fault


def take_outputs(
    specs: Mapping[str, OutputSpec], results: Sequence[ActionResult]
) -> dict[str, Any]:
    """Outputs from the last command's result. Raises OutputMissing naming the output."""
    if not specs:
        return {}
    data = next((r.data for r in reversed(results) if "exit_code" in r.data), None)
    if data is None:
        raise OutputMissing("no command ran, so there is nothing to take outputs from")
    return {name: _typed(name, spec, _take(name, spec, data)) for name, spec in specs.items()}


def _take(name: str, spec: OutputSpec, data: Mapping[str, Any]) -> Any:
    text = str(data.get("stdout", ""))
    if spec.take == "exit_code":
        return data["exit_code"]
    if spec.take == "stdout":
        return text.strip()
    if spec.take == "regex":
        found = re.search(spec.pattern, text, re.MULTILINE)
        if found is None:
            raise OutputMissing(f"output {name!r}: nothing matches {spec.pattern!r}")
        return found.group(1) if found.groups() else found.group(0)
    try:
        value: Any = json.loads(text)
        for part in filter(None, spec.pattern.split(".")):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (ValueError, LookupError, TypeError) as fault:
        raise OutputMissing(f"output {name!r}: not found in the printed JSON: {fault}") from fault
    return value


def _typed(name: str, spec: OutputSpec, value: Any) -> Any:
    try:
        if spec.type == "json":
            return value if not isinstance(value, str) else json.loads(value)
        if spec.type == "bool":
            return str(value).strip().lower() in {"1", "true", "yes", "on"}
        return {"str": str, "int": int, "float": float}[spec.type](value)
    except (TypeError, ValueError) as fault:
        raise OutputMissing(f"output {name!r}: {value!r} is not of type {spec.type}") from fault
