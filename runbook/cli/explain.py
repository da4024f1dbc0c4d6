"""``runbook explain``: one kind of step in full, or the format of sandbox.yml."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Json

SANDBOX = "sandbox"
"""Asks for the format of sandbox.yml."""


def complete_kind(incomplete: str) -> list[str]:
    """Names of kinds, for the shell."""
    from runbook.cli.wiring import kinds

    return sorted(name for name in (*kinds(), SANDBOX) if name.startswith(incomplete))


def command(
    kind: Annotated[str, typer.Argument(
        metavar="KIND", help=f"Name of a kind; or `{SANDBOX}`, for the format of sandbox.yml.",
        autocompletion=complete_kind,
    )],
    as_json: Json = False,
) -> None:
    """Explain a kind: what it does, its keys, its outputs, how it is undone, an example."""
    import json

    from runbook.cli.wiring import kinds
    from runbook.errors import NotFound
    from runbook.templating.values import did_you_mean
    from runbook.views.kinds import describe, show_kind
    from runbook.views.sandbox_file import describe_sandbox, show_sandbox

    known = kinds()
    if kind not in known and kind != SANDBOX:
        raise NotFound(f"there is no kind {kind!r}", hint=did_you_mean(kind, (*known, SANDBOX)))
    if as_json:
        told = describe_sandbox() if kind == SANDBOX else describe(known[kind])
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif kind == SANDBOX:
        show_sandbox()
    else:
        show_kind(known[kind])
