"""Many host names in few words: ``node[001-180,190]``, as ClusterShell's nodeset(1) writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


def folded(names: Iterable[str]) -> str:
    """Names that differ in their last number alone are written as ranges; leading zeros stay."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    words: list[str] = []
    places: dict[tuple[str, str, int], int] = {}
    for name in dict.fromkeys(names):
        found = _NUMBERED.fullmatch(name)
        if found is None:
            words.append(name)
            continue
        head, digits, tail = found.groups()
        padded = len(digits) if digits.startswith("0") or len(digits) > 1 else 0
        key = (head, tail, padded)
        if key not in groups:
            groups[key] = []
            places[key] = len(words)
            words.append("")
        groups[key].append(int(digits))
    for key, numbers in groups.items():
        words[places[key]] = _ranges(*key, sorted(numbers))
    return ", ".join(words)


def _ranges(head: str, tail: str, padded: int, numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    shown = [
        f"{first:0{padded}}" if first == last else f"{first:0{padded}}-{last:0{padded}}"
        for first, last in spans
    ]
    if len(shown) == 1 and "-" not in shown[0]:
        return f"{head}{shown[0]}{tail}"
    return f"{head}[{','.join(shown)}]{tail}"


def folded_nodes(nodes: Iterable[str]) -> str:
    """Nodes of one step: ``step@web[1-3]``, or ``step`` for that on no host."""
    ids = list(nodes)
    step, at, _ = ids[0].partition("@")
    return step + at + folded(node.partition("@")[2] for node in ids)
