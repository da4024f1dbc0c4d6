"""``runbook kinds``: the kinds of step there are."""

from __future__ import annotations

import typer

from runbook.cli.options import Json


def command(as_json: Json = False) -> None:
    """List every kind with its summary, those of installed packages included."""
    import json

    from runbook.cli.wiring import kinds
    from runbook.views.kinds import rows, show_kinds

    if as_json:
        typer.echo(json.dumps(rows(kinds()), indent=2, ensure_ascii=False))
        return
    show_kinds(kinds())
