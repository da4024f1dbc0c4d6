"""What of a plan would reach past an embedded world, into the machine it is played on.

A sandbox host is a folder with real processes, not a container: a relative path stays inside, an
absolute one does not. Programs and devices may be named by absolute paths; everything else is
found here, before anything is started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runbook.model.plan import Plan

_HARMLESS = ("/bin/", "/sbin/", "/usr/", "/lib", "/dev/null", "/dev/std", "/dev/tcp/", "/proc/")
_ABSOLUTE = re.compile(r"(?<![\w/:.~$}\])*-])/(?!/)[\w.][^\s'\"`;|&<>()]*")
_NO_PATHS = frozenset({"url", "contains", "not_contains", "message", "question", "content", "title",
                       "instructions", "source"})
"""Keys whose values are not paths on a host; ``source`` of a file is local and only read."""


def absolute_paths(plan: Plan) -> list[tuple[str, str]]:
    """(step, path) of every absolute path that a step names on a host or on the controller."""
    found: list[tuple[str, str]] = []
    for step in plan.steps:
        for node in step.nodes:
            texts = [*_texts(node.args), node.undo or ""]
            paths = {path for text in texts for path in _paths(text)}
            found.extend((step.id, path) for path in sorted(paths))
    return list(dict.fromkeys(found))


def _paths(text: str) -> Iterator[str]:
    for match in _ABSOLUTE.finditer(text):
        path = match.group()
        if not path.startswith(_HARMLESS):
            yield path


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _NO_PATHS:
                yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
