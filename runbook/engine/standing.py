"""How the world stands, as the steps of a plan see it: what each of them would do to it now.

What a step would do follows from what it observes alone, so where two looks give the same, what it
works on is the same. A command of which nothing can be seen tells nothing here. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from runbook.engine.probe import ProbeReport
from runbook.sandbox.fingerprint import Difference

_LEAVES_NOTHING = frozenset({"wait_for", "confirm", "ask_operator", "notify"})
_SHOWN = 200

Standing = Mapping[str, str]
"""By node."""


def standing(report: ProbeReport) -> Standing:
    """What a probe saw. Of what could not be asked, why."""
    found = {}
    for node in report.nodes:
        doing = [one for one in node.would if one["action"] not in _LEAVES_NOTHING]
        told = json.dumps(doing, sort_keys=True, ensure_ascii=False)
        found[node.node] = f"unknown: {node.says}" if node.how == "unknown" else told
    return found


def differences(before: Standing, after: Standing) -> list[Difference]:
    """Nodes that would now do something else."""
    return [
        Difference(node, f"{node} finds something else: it would do {_short(before.get(node, ''))}"
                         f", and now {_short(after.get(node, ''))}")
        for node in dict.fromkeys([*before, *after]) if before.get(node) != after.get(node)
    ]


def _short(text: str) -> str:
    text = "nothing" if text == "[]" else text
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
