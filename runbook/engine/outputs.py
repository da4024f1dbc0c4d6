"""Taking named, typed outputs from what a command printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook.errors import Refused
from runbook.model.actions import ActionResult
from runbook.model.plan import Plan
from runbook.model.runbook import OutputSpec
from runbook.templating.needed import outputs_needed

PRINTED_LIMIT = 16 * 1024 * 1024
"""Bytes that a command may print where outputs are taken from its text."""

VALUE_LIMIT = 1024 * 1024
"""Bytes of one output as JSON: it is journaled, and stands in every plan made of it."""


class OutputMissing(ValueError):
    """A declared output is not in what the command printed, or is too large to be one."""


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
    """Outputs from all that the last command printed. Raises OutputMissing naming the output."""
    if not specs:
        return {}
    data = next((r.data for r in reversed(results) if "exit_code" in r.data), None)
    if data is None:
        raise OutputMissing("no command ran, so there is nothing to take outputs from")
    text = _printed(data) if any(s.take != "exit_code" for s in specs.values()) else ""
    found: dict[str, Any] = {}
    for name, spec in specs.items():
        taken = data["exit_code"] if spec.take == "exit_code" else _take(name, spec, text)
        found[name] = _typed(name, spec, taken)
        if len(json.dumps(found[name], ensure_ascii=False).encode()) > VALUE_LIMIT:
            raise OutputMissing(
                f"output {name!r} is larger than {VALUE_LIMIT // 1024} KiB, the most that one can "
                "be: take a part of it, or leave it in a file and name that"
            )
    return found


def _printed(data: Mapping[str, Any]) -> str:
    """All that a command printed. A result holds only the beginning of what is long; all of it is
    in a file of the controller."""
    if not data.get("stdout_cut"):
        return str(data.get("stdout", ""))
    path = Path(str(data["stdout_path"]))
    try:
        if path.stat().st_size > PRINTED_LIMIT:
            raise OutputMissing(
                f"the command printed more than {PRINTED_LIMIT // 1024 // 1024} MiB, too much to "
                f"take outputs from; it is kept in {path}"
            )
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as fault:
        raise OutputMissing(
            f"the outputs are taken from what the command printed, and {path}, which keeps it, "
            f"cannot be read ({fault.strerror})"
        ) from fault


def _take(name: str, spec: OutputSpec, text: str) -> Any:
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
