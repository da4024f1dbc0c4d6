"""``runbook validate``: every error of a runbook at once, each with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from runbook.cli.options import Json, RunbookFile, Vars
from runbook.cli.plan import looked_ahead
from runbook.cli.wiring import STAGING

if TYPE_CHECKING:
    from runbook.errors import Diagnostic
    from runbook.model.plan import Plan


def command(file: RunbookFile, var: Vars = None, as_json: Json = False) -> None:
    """Check a runbook, its inventory and its playbooks. Nothing outside is asked."""
    import json

    from runbook.errors import InvalidInput

    try:
        plan, staging = _plans(file, var or [])
        _, previews = looked_ahead(plan)
    except InvalidInput as fault:
        if not as_json:
            raise
        found = [_as_json(item) for item in fault.diagnostics]
        typer.echo(json.dumps({"ok": False, "errors": found}, indent=2, ensure_ascii=False))
        raise typer.Exit(fault.exit_code) from fault
    warnings = [
        f"{plan.by_id[name].source}: step {name}: {warning}"
        for name, one in previews.items() for warning in one.warnings
    ]
    counts = {
        "steps": len(plan.steps),
        "nodes": len(plan.nodes),
        "hosts": len(plan.inventory.hosts),
        "zones": len(plan.zones),
    }
    if as_json:
        also = {} if staging is None else {"staging_digest": staging.digest}
        told = {"ok": True, **counts, "digest": plan.digest, **also, "warnings": warnings}
        typer.echo(json.dumps(told, indent=2))
        return
    shown = ", ".join(
        f"{count} {name if count != 1 else name.removesuffix('s')}"
        for name, count in counts.items()
    )
    for warning in warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(f"ok: {shown}; digest {plan.digest[:12]}")
    if staging is not None:
        typer.echo(f"ok in staging: {len(staging.nodes)} nodes, "
                   f"{len(staging.inventory.hosts)} hosts; digest {staging.digest[:12]}")


def _plans(file: Path, variables: list[str]) -> tuple[Plan, Plan | None]:
    """As it runs, and as it is rehearsed in staging, where it says anything of that. Raises
    InvalidInput with what is wrong in either."""
    from runbook.cli import wiring
    from runbook.errors import InvalidInput

    book = wiring.load_book(file, variables)
    ways: list[Callable[[], Plan]] = [lambda: wiring.plan_of(book)]
    if book.staging is not None:
        ways.append(lambda: wiring.load_staging(file, variables))
        if book.staging.invert is not None:
            ways.append(lambda: wiring.load_staging(file, variables, invert=True))
    plans: list[Plan] = []
    found: list[Diagnostic] = []
    for way in ways:
        try:
            plans.append(way())
        except InvalidInput as fault:
            found += [one for one in fault.diagnostics if not _told(one, found)]
    if found:
        raise InvalidInput(tuple(found))
    return plans[0], plans[1] if book.staging is not None else None


def _told(one: Diagnostic, found: list[Diagnostic]) -> bool:
    """Whether the same is wrong where it was looked at before: in production, or not inverted."""
    return any(
        one.position == other.position
        and one.message.endswith(other.message.removeprefix(f"{STAGING}: "))
        for other in found
    )


def _as_json(item: Diagnostic) -> dict[str, Any]:
    at = item.position
    return {
        "message": item.message,
        "file": None if at is None else str(at.file),
        "line": None if at is None else at.line,
        "column": None if at is None else at.column,
        "length": None if at is None else at.length,
        "hint": item.hint,
    }
