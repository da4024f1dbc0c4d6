"""The items of a ``foreach`` and the names of the steps it becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook.errors import Position
from runbook.model.problems import Problems
from runbook.model.runbook import Step, ValuePath
from runbook.planning.rendering import Renderer
from runbook.planning.scope import Scope

_MOST_ITEMS = 1000
_LONGEST_WORD = 40


def foreach_items(
    step: Step, scope: Scope, full: str, renderer: Renderer, problems: Problems
) -> list[Any] | None:
    """The items, a mapping's as ``{key, value}``; None where a problem was collected."""

    def where(path: ValuePath) -> Position:
        return step.position("foreach", *path)

    facts = renderer.scan(step.foreach, scope, where, owner=full)
    if facts.late:
        problems.add(
            "`foreach` cannot depend on outputs: the steps of a plan are fixed before it runs",
            where(()),
        )
        return None
    found = renderer.render(step.foreach, scope, where, facts, keep=True)
    if isinstance(found, Mapping):
        found = [{"key": key, "value": value} for key, value in found.items()]
    if isinstance(found, list) and len(found) <= _MOST_ITEMS:
        return found
    if isinstance(found, list):
        problems.add(f"`foreach` has {len(found)} items, more than {_MOST_ITEMS}", where(()))
    elif facts.ok:
        problems.add(f"`foreach` wants a list, not {found!r}", where(()))
    return None


def suffixes(items: list[Any]) -> list[str]:
    """Short distinct words for the items, else their numbers from 1."""
    words = []
    for item in items:
        named = item.get("name", item.get("key")) if isinstance(item, Mapping) else item
        text = "" if isinstance(named, Mapping | list) or named is None else str(named)
        words.append(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-"))
    usable = all(word and len(word) <= _LONGEST_WORD for word in words)
    if usable and len(set(words)) == len(words):
        return words
    return [str(number) for number in range(1, len(items) + 1)]
