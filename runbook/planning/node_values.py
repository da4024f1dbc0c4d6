"""The nodes of one step: arguments, checks and undo, rendered once a step or once a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.errors import Position
from runbook.model.database import Database
from runbook.model.dns import PROVIDERS, Zone, zone_name
from runbook.model.inventory import Host, Inventory
from runbook.model.kind import Kind
from runbook.model.plan import Check, Node
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.model.selector import HostName
from runbook.planning.checks import BadCheck, CheckSpec, read_check
from runbook.planning.expand import Unit
from runbook.planning.files import LocalFiles
from runbook.planning.rendering import Facts, Renderer
from runbook.planning.step_references import StepReferences
from runbook.planning.validation import late_keys_of, validate
from runbook.templating import is_template
from runbook.templating.values import did_you_mean


@dataclass(frozen=True, slots=True)
class _Part:
    """One tree of values of a step, looked at once."""

    key: ValuePath
    value: Any
    facts: Facts
    spec: CheckSpec | None = None


class NodeValues:
    """Makes the nodes of one unit. What is the same on every host is rendered once."""

    def __init__(
        self, unit: Unit, kind: type[Kind], kinds: Mapping[str, type[Kind]], renderer: Renderer,
        problems: Problems, references: StepReferences, files: LocalFiles, inventory: Inventory,
        databases: Mapping[str, Database], zones: Mapping[str, Zone], staged: bool,
    ) -> None:
        self._unit = unit
        self._kind = kind
        self._kinds = kinds
        self._renderer = renderer
        self._problems = problems
        self._references = references
        self._files = files
        self._inventory = inventory
        self._databases = databases
        self._zones = zones
        self._section = "staging: " if staged else ""
        """What stands before the name of a section, in hints."""
        self._all_zones = staged or bool(zones)
        """A runbook that declares no zone at all is taken for one that is not finished yet."""
        self.late_names: frozenset[str] = frozenset()
        """Names that have to be kept for late rendering."""
        self.seconds = 0.0
        """What one node takes, by its kind; the longest where they differ."""
        self.undo_seconds: float | None = None
        """The same for its undo; None: as long as the doing."""

    def nodes(self, hosts: Sequence[Host | None]) -> tuple[Node, ...]:
        """One node a host; ``[None]`` gives the node of a step on no host."""
        unit, step = self._unit, self._unit.step
        has_host = bool(hosts) and hosts[0] is not None
        args = self._look(("with",), step.args, has_host)
        undo = self._look(("undo",), step.undo if isinstance(step.undo, str) else None, has_host)
        requires = self._look_checks("requires", step.requires, has_host)
        verify = self._look_checks("verify", step.verify, has_host)
        late = args.facts.late or undo.facts.late
        args.facts.late = undo.facts.late = late
        shared: dict[int, Any] = {}

        def each(
            part: _Part, host: Host | None, make: Callable[[_Part, Host | None], Any]
        ) -> Any:
            if part.facts.host:
                return make(part, host)
            if id(part) not in shared:
                shared[id(part)] = make(part, host)
            return shared[id(part)]

        return tuple(
            Node(
                id=unit.id if host is None else f"{unit.id}@{host.name}",
                step=unit.id,
                host=None if host is None else host.name,
                args=each(args, host, self._args),
                late=late,
                undo=each(undo, host, self._undo),
                requires=tuple(each(part, host, self._check) for part in requires),
                verify=tuple(each(part, host, self._check) for part in verify),
            )
            for host in hosts
        )

    def _look(
        self, key: ValuePath, value: Any, has_host: bool, spec: CheckSpec | None = None
    ) -> _Part:
        facts = self._renderer.scan(
            value, self._unit.scope, self._where(key, spec), owner=self._unit.id,
            has_host=has_host,
        )
        self.late_names |= facts.names
        return _Part(key, value, facts, spec)

    def _where(
        self, key: ValuePath, spec: CheckSpec | None
    ) -> Callable[[ValuePath], Position]:
        step = self._unit.step

        def where(path: ValuePath) -> Position:
            return step.position(*key, *(spec.place(path) if spec else path))

        return where

    def _look_checks(
        self, name: str, items: Sequence[Mapping[str, Any]], has_host: bool
    ) -> list[_Part]:
        parts = []
        for index, item in enumerate(items):
            key = (name, index)
            try:
                spec = read_check(item, self._kinds)
            except BadCheck as fault:
                at = self._unit.step.position(*key, *fault.path)
                self._problems.add(str(fault), at, fault.hint)
                continue
            kind = self._kinds[spec.kind]
            if kind.scope == "host" and not has_host and spec.host is None:
                self._problems.add(
                    f"{spec.kind} looks at a host, and neither the step nor the check names one",
                    self._unit.step.position(*key), "add `host: NAME` to the check",
                )
            parts.append(self._look(key, {**spec.args, "host": spec.host}
                                    if is_template(spec.host) else spec.args, has_host, spec))
        return parts

    def _render(self, part: _Part, host: Host | None) -> Any:
        return self._renderer.render(
            part.value, self._unit.scope, self._where(part.key, part.spec), part.facts,
            host=None if host is None else HostName(host),
        )

    def _args(self, part: _Part, host: Host | None) -> dict[str, Any]:
        made = self._render(part, host)
        if made is None:
            return {}
        return self._valid(self._kind, made, part, self._where(part.key, None))

    def _undo(self, part: _Part, host: Host | None) -> str | None:
        made = self._render(part, host) if part.value is not None else None
        return None if made is None else str(made)

    def _valid(
        self, kind: type[Kind], args: dict[str, Any], part: _Part,
        where: Callable[[ValuePath], Position],
    ) -> dict[str, Any]:
        """The arguments with step ids made whole, checked by the kind."""
        unit = self._unit
        late = (
            late_keys_of(part.value, lambda text: is_template(text)
                         and bool(unit.scope.late_names(text)))
            if part.facts.late else frozenset()
        )

        def at(path: ValuePath, key: bool) -> Position:
            if not key:
                return where(path)
            place = part.spec.place(path) if part.spec else path
            return unit.step.source.key_at((*unit.step.path, *part.key, *place))

        made = validate(kind, args, late, at, self._problems, unit.scope.trail)
        if part.spec is None:
            own = kind.estimate if made is None else made.estimated()
            self.seconds = max(self.seconds, own)
            back = kind.estimate_undo if made is None else made.estimated_undo()
            if back is not None:
                self.undo_seconds = max(self.undo_seconds or 0.0, back)
        if made is None:
            return args
        for path in made.local_files():
            try:
                self._files.add(path)
            except ValueError as fault:
                self._problems.add(str(fault), where(_place_of(path, args)), unit.scope.trail)
        for name in made.named_hosts():
            if not is_template(name):
                self._check_host(name, where(_place_of(name, args)))
        for name in made.databases():
            if name not in self._databases:
                self._problems.add(
                    f"there is no database {name!r}", where(_place_of(name, args)),
                    did_you_mean(name, self._databases)
                    or f"declare it under `{self._section}databases:`",
                )
        weighted = made.weighted_zones()
        for name in made.zones() if self._all_zones else ():
            known = zone_name(name) in self._zones or name in weighted or is_template(name)
            if not known:
                self._no_zone(name, where(_place_of(name, args)))
        for name in weighted:
            self._check_weights(name, where(_place_of(name, args)))
        return self._references.complete(unit, kind, made, args, where)

    def _check_host(self, name: str, at: Position) -> None:
        if self._inventory.get(name) is None:
            self._problems.add(
                f"there is no host {name!r} in the inventory", at,
                did_you_mean(name, (one.name for one in self._inventory.hosts))
                or "declare it under `hosts:` of the inventory",
            )

    def _check_weights(self, name: str, at: Position) -> None:
        zone = self._zones.get(zone_name(name))
        if zone is None:
            self._no_zone(name, at)
        elif not PROVIDERS[zone.provider].max_weight:
            able = ", ".join(one for one, caps in PROVIDERS.items() if caps.max_weight)
            self._problems.add(
                f"provider {zone.provider} of the zone {zone.called} knows no weights", at,
                f"weights are known to: {able}; elsewhere move the addresses at once (dns.flip), "
                "or shift the traffic at a load balancer",
            )

    def _no_zone(self, name: str, at: Position) -> None:
        self._problems.add(
            f"there is no zone {name!r}", at,
            did_you_mean(zone_name(name), self._zones)
            or f"declare it under `{self._section}zones:`",
        )

    def _check(self, part: _Part, host: Host | None) -> Check | None:
        spec = part.spec
        made = self._render(part, host)
        if spec is None or made is None:
            return Check(kind="", args={})
        on = spec.host
        if is_template(on):
            on = str(made.pop("host"))
        if on is not None:
            self._check_host(on, self._unit.step.position(*part.key, "host"))
        args = self._valid(self._kinds[spec.kind], made, part, self._where(part.key, spec))
        return Check(kind=spec.kind, args=args, late=part.facts.late, host=on, poll=spec.poll)


def _place_of(text: str, args: Mapping[str, Any]) -> ValuePath:
    """The argument that is this text, or has it in its list."""
    for key, value in args.items():
        if value == text:
            return (key,)
        if isinstance(value, list) and text in value:
            return (key, value.index(text))
    return ()
