"""What the resolvers that are declared hold of the sets that a plan would change.

They are asked for what they have alone (``DnsReads.cached``): a question that made them look would
fill their caches with the old answer anew, on the eve of a move. Each set is asked for as soon as
a step is found to change it, before checks of later steps ask resolvers as any client does.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runbook.engine.actions_json import actions_from_json
from runbook.engine.probe.report import CacheHolds, Probed
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import RRset
from runbook.model.plan import Plan
from runbook.model.ports import DnsReads, World

MOST = 100
"""Sets that a resolver is asked for."""
_ANSWERS = {"NOERROR", "NXDOMAIN"}


@dataclass(slots=True)
class _Resolver:
    """What one of them has told so far."""

    name: str
    asked: int = 0
    held: dict[str, float] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)
    says: str = ""

    def ask(self, dns: DnsReads, sets: Sequence[RRset]) -> None:
        for rrset in sets:
            if self.says or self.asked == MOST:
                return
            self.asked += 1
            answer = dns.cached(self.name, rrset.name, rrset.rtype)
            if answer.rcode not in _ANSWERS:
                self.says = f"it does not tell what it holds ({answer.rcode})"
            elif answer.rrset is not None and not answer.chain:
                label = f"{rrset.name} {rrset.rtype}"
                self.held[label] = answer.rrset.ttl
                if answer.rrset.ttl > rrset.ttl:
                    self.beyond.append(label)

    def told(self) -> CacheHolds:
        longest = max(self.held, key=lambda one: self.held[one], default="")
        return CacheHolds(
            resolver=self.name, asked=self.asked, held=len(self.held), longest=longest,
            left=self.held.get(longest, 0.0), beyond=tuple(self.beyond), says=self.says,
        )


class Caches:
    """Is shown every node as it is probed. Never raises."""

    def __init__(self, plan: Plan, world: World) -> None:
        names = [one for zone in plan.zones for one in zone.resolvers]
        names += [site.resolver for site in plan.inventory.sites if site.resolver]
        self._world = world
        self._resolvers = [_Resolver(name) for name in dict.fromkeys(names)]
        self._known: set[tuple[str, str]] = set()

    def see(self, node: Probed) -> None:
        """Ask for the sets that it would change, and no other would before it."""
        fresh = []
        for action in actions_from_json(node.would) if self._resolvers else ():
            for change in action.changes if isinstance(action, ChangeRecordSet) else ():
                if change.before is not None and change.key not in self._known:
                    self._known.add(change.key)
                    fresh.append(change.before)
        if fresh:
            with ThreadPoolExecutor(min(8, len(self._resolvers))) as pool:
                list(pool.map(lambda one: one.ask(self._world.dns, fresh), self._resolvers))

    def told(self) -> tuple[CacheHolds, ...]:
        return tuple(one.told() for one in self._resolvers) if self._known else ()
