"""``runbook validate``: every error of a runbook at once, each with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from runbook.cli.options import Json, RunbookFile, Vars

if TYPE_CHECKING:
    from runbook.errors import Diagnostic


def command(file: RunbookFile, var: Vars = None, as_json: Json = False) -> None:
    """Check a runbook, its inventory and its playbooks. Nothing outside is asked."""
    import json

    from runbook.cli.wiring import load_plan
    from runbook.errors import InvalidInput

    try:
        plan = load_plan(file, var or [])
    except InvalidInput as fault:
        if not as_json:
            raise
        found = [_as_json(item) for item in fault.diagnostics]
        typer.echo(json.dumps({"ok": False, "errors": found}, indent=2, ensure_ascii=False))
        raise typer.Exit(fault.exit_code) from fault
    counts = {
        "steps": len(plan.steps),
        "nodes": len(plan.nodes),
        "hosts": len(plan.inventory.hosts),
        "zones": len(plan.zones),
    }
    if as_json:
        typer.echo(json.dumps({"ok": True, **counts, "digest": plan.digest}, indent=2))
        return
    shown = ", ".join(
        f"{count} {name if count != 1 else name.removesuffix('s')}"
        for name, count in counts.items()
    )
    typer.echo(f"ok: {shown}; digest {plan.digest[:12]}")


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
