"""Names that stand for several steps, and an order of all steps."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from runbook.errors import RunbookError


class Cycle(RunbookError):
    """Steps that wait for each other; ``steps`` in the order of waiting."""

    def __init__(self, steps: tuple[str, ...]) -> None:
        super().__init__("steps wait for each other: " + " → ".join((*steps, steps[0])))
        self.steps = steps


class Groups:
    """What each id means to a step that comes after it.

    A step means itself; a playbook call its last steps; a ``foreach`` step all it became.
    """

    def __init__(self) -> None:
        self._members: dict[str, tuple[str, ...]] = {}
        self._known: dict[str, tuple[str, ...]] = {}

    def step(self, name: str) -> None:
        """Declare a real step."""
        self._known[name] = (name,)

    def several(self, name: str, members: Sequence[str]) -> None:
        """Declare a name for several; members may be such names themselves."""
        self._members[name] = tuple(members)

    def members(self, name: str) -> tuple[str, ...]:
        """What a name was declared to stand for; empty for a real step."""
        return self._members.get(name, ())

    def groups(self) -> tuple[str, ...]:
        """Every name that was declared to stand for several."""
        return tuple(self._members)

    def steps(self, name: str) -> tuple[str, ...]:
        """The real steps behind an id, without repeats. Unknown names mean nothing."""
        known = self._known.get(name)
        if known is None:
            self._known[name] = ()  # a group that holds itself adds nothing to itself
            known = tuple(
                dict.fromkeys(step for one in self.members(name) for step in self.steps(one))
            )
            self._known[name] = known
        return known


def in_order(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Every step after those it depends on; among the free ones the written order is kept.

    ``after`` is in written order and names known steps only. Raises Cycle.
    """
    place = {name: index for index, name in enumerate(after)}
    names = list(after)
    waiting = {name: len(set(earlier)) for name, earlier in after.items()}
    followers: dict[str, list[str]] = {name: [] for name in after}
    for name, earlier in after.items():
        for one in set(earlier):
            followers[one].append(name)
    ready = [place[name] for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for follower in followers[name]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, place[follower])
    if len(order) < len(names):
        raise Cycle(_a_cycle(after, {name for name in names if waiting[name]}))
    return order


def _a_cycle(after: Mapping[str, Iterable[str]], stuck: set[str]) -> tuple[str, ...]:
    path: dict[str, None] = {}
    name = min(stuck)
    while name not in path:
        path[name] = None
        name = next(one for one in after[name] if one in stuck)
    walked = list(path)
    return tuple(reversed(walked[walked.index(name) :]))


def ancestors(order: Sequence[str], after: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """For each step the set of all steps before it, as bits by place in ``order``."""
    place = {name: index for index, name in enumerate(order)}
    found: dict[str, int] = {}
    for name in order:
        bits = 0
        for one in after[name]:
            bits |= found[one] | 1 << place[one]
        found[name] = bits
    return found
