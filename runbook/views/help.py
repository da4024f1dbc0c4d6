"""The front page, ``runbook --help``: drawn here, since it has to be there at once.

Typer's own renderer imports a Markdown parser and a syntax highlighter first, which is more than
half of the time the whole command takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import ROUNDED
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


def show_help(
    usage: str, text: str, options: Sequence[tuple[str, str]],
    commands: Mapping[str, tuple[str, str]],
) -> None:
    """Print usage, the text, and a panel a group. ``commands``: name → (panel, line)."""
    console = Console(highlight=False)
    console.print(Text(f"\n {usage}\n", style="bold"))
    console.print(Text(text), width=min(console.width, 100), new_line_start=False)
    console.print()
    console.print(_panel("Options", options))
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, (panel, line) in commands.items():
        panels.setdefault(panel, []).append((name, line))
    for title, rows in panels.items():
        console.print(_panel(title, rows, width=max(len(name) for name in commands)))


def _panel(title: str, rows: Sequence[tuple[str, str]], *, width: int = 0) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", min_width=width, no_wrap=True)
    table.add_column(ratio=1)
    for name, line in rows:
        table.add_row(Text(name), Text(line))
    return Panel(table, title=title, title_align="left", border_style="dim", box=ROUNDED)
