"""HTML pages that need nothing else: no script, no file, no network."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined


@functools.cache
def environment() -> Environment:
    """Templates of this folder. Everything put into them is escaped: it stays text."""
    return Environment(
        loader=PackageLoader("runbook.views"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
