"""``runbook init``: write a commented starter runbook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write it; made if need be.")
    ] = Path(),
) -> None:
    """Write runbook.yml, inventory.yml and the JSON Schema for editors. Nothing is overwritten."""
    from runbook.cli.wiring import kinds
    from runbook.errors import Refused
    from runbook.loading.starter import starter_files

    files = {directory / name: text for name, text in starter_files(kinds()).items()}
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        raise Refused(
            f"already there: {', '.join(there)}; nothing was written",
            hint="name another folder: runbook init DIR",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as fault:
        raise Refused(f"cannot write to {directory}: {fault.strerror}") from fault
    for path in files:
        typer.echo(f"wrote {path}")
    typer.echo(f"next: runbook validate {directory / 'runbook.yml'}")
