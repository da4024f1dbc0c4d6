"""``runbook schema``: the JSON Schema of runbooks."""

from __future__ import annotations

import typer


def command() -> None:
    """Print the JSON Schema, the kinds of installed packages included."""
    import json

    from runbook.cli.wiring import kinds
    from runbook.loading.schema import json_schema

    typer.echo(json.dumps(json_schema(kinds()), indent=2, ensure_ascii=False))
