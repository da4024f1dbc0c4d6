"""Bars of text."""

from __future__ import annotations

from rich.text import Text


def bar(share: float, width: int, style: str, ascii_only: bool) -> Text:
    """A bar that is ``share`` full (clipped to 0..1), ``width`` cells wide."""
    full = round(min(max(share, 0.0), 1.0) * width)
    on, off = ("#", ".") if ascii_only else ("━", "─")
    return Text.assemble((on * full, style), (off * (width - full), "dim"))
