"""``runbook explain``: one kind of step in full."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Json


def command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Name of a kind.")],
    as_json: Json = False,
) -> None:
    """Explain a kind: what it does, its keys, its outputs, how it is undone, an example."""
    import json

    from runbook.cli.wiring import kinds
    from runbook.errors import NotFound
    from runbook.templating.values import did_you_mean
    from runbook.views.kinds import describe, show_kind

    known = kinds()
    if kind not in known:
        raise NotFound(f"there is no kind {kind!r}", hint=did_you_mean(kind, known))
    if as_json:
        typer.echo(json.dumps(describe(known[kind]), indent=2, ensure_ascii=False))
        return
    show_kind(known[kind])
