"""One expanded step → the step of the plan: its hosts, its nodes, its rendered arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook.errors import Position
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.plan import Node, PlannedStep
from runbook.model.problems import Problems
from runbook.model.runbook import Runbook, ValuePath
from runbook.planning.expand import Unit
from runbook.planning.files import LocalFiles
from runbook.planning.node_values import NodeValues
from runbook.planning.rendering import Renderer
from runbook.planning.selectors import HostPicker
from runbook.planning.step_references import StepReferences
from runbook.templating import is_template
from runbook.templating.values import did_you_mean


@dataclass(slots=True)
class StepPlanner:
    """Plans units one by one; what is wrong goes to ``problems``."""

    runbook: Runbook
    kinds: Mapping[str, type[Kind]]
    renderer: Renderer
    problems: Problems
    references: StepReferences
    picker: HostPicker = field(init=False)
    files: LocalFiles = field(init=False)

    def __post_init__(self) -> None:
        self.picker = HostPicker(self.runbook.inventory)
        self.files = LocalFiles(self.runbook.directory)

    def plan(self, unit: Unit, after: tuple[str, ...]) -> PlannedStep | None:
        """None where problems were collected that leave nothing to plan."""
        step = unit.step
        kind = self.kinds.get(step.kind or "")
        if kind is None:
            self.problems.add(
                f"there is no kind {step.kind!r}", step.position("kind"),
                did_you_mean(step.kind or "", self.kinds),
            )
            return None
        nodes: tuple[Node, ...] = ()
        scope: dict[str, Any] = {}
        seconds, undo_seconds = 0.0, kind.estimate_undo
        if unit.skipped is None:
            hosts = self._hosts(unit, kind)
            if hosts is None:
                return None
            values = NodeValues(unit, kind, self.kinds, self.renderer, self.problems,
                                self.references, self.files, self.runbook.inventory,
                                {one.name: one for one in self.runbook.databases},
                                {one.called: one for one in self.runbook.zones},
                                self.runbook.staged)
            nodes = values.nodes(hosts)
            names, seconds = values.late_names, values.seconds
            undo_seconds = values.undo_seconds
            if unit.when is not None:
                names |= unit.scope.late_names("{{ " + unit.when + " }}")
            if names or any(_is_late(node) for node in nodes):
                scope = unit.scope.packed(names)
        sizes = tuple(_share(one, len(nodes)) for one in step.batch)
        batch = sizes[-1] if sizes else None
        estimate, undo = self._estimates(
            unit, kind, len(nodes), sizes, seconds, undo_seconds
        )
        at = step.position()
        return PlannedStep(
            id=unit.id,
            kind=kind.name,
            title=self._title(unit),
            nodes=nodes,
            after=after,
            when=unit.when,
            skipped=unit.skipped,
            at=unit.at,
            not_before=unit.not_before,
            retry=step.retry,
            timeout=step.timeout,
            poll=step.poll,
            batch=batch,
            ramp=sizes[:-1],
            soak=step.soak,
            max_failures=_share(step.max_failures, len(nodes), least=0),
            run_as=unit.inherited.run_as,
            on_failure=unit.inherited.on_failure or "hold",
            severity=step.severity,
            outputs=step.outputs,
            tags=unit.inherited.tags,
            owner=unit.inherited.owner,
            estimate=estimate,
            estimate_undo=undo,
            interrupt=kind.interrupt if step.interrupt is None else step.interrupt,
            point_of_no_return=unit.no_return,
            irreversible=self._irreversible(unit),
            rehearse=step.rehearse,
            scope=scope,
            source=f"{at.file.name}:{at.line}",
        )

    def _hosts(self, unit: Unit, kind: type[Kind]) -> Sequence[Host | None] | None:
        """The hosts of the nodes, ``[None]`` for a step on no host, None for a problem."""
        step = unit.step
        if step.hosts is None:
            if kind.scope == "host":
                self.problems.add(
                    f"{kind.name} works on hosts, and step {unit.id!r} has no `hosts:`",
                    step.position("kind"),
                    "add for example `hosts: role=db and site=east`; " + unit.scope.trail,
                )
                return None
            return [None]
        if kind.scope == "controller":
            self.problems.add(
                f"{kind.name} works from the controller and takes no `hosts:`",
                step.position("hosts"), "leave `hosts:` out",
            )
            return None

        def where(path: ValuePath) -> Position:
            return step.position("hosts", *path)

        facts = self.renderer.scan(step.hosts, unit.scope, where, owner=unit.id)
        if facts.late:
            self.problems.add(
                "`hosts` cannot depend on outputs: the hosts of a plan are fixed before it runs",
                where(()),
            )
            return None
        wanted = self.renderer.render(step.hosts, unit.scope, where, facts, keep=True)
        if wanted is None:
            return None
        try:
            found = self.picker.pick(wanted)
        except ValueError as fault:
            self.problems.add(str(fault), where(()), unit.scope.trail)
            return None
        expected = step.expect_hosts
        if expected is not None and len(found) != expected:
            names = ", ".join(host.name for host in found[:8]) or "none"
            self.problems.add(
                f"`hosts` selects {len(found)} ({names}), and `expect_hosts` says {expected}",
                step.position("expect_hosts"),
            )
            return None
        if not found and expected is None:
            self.problems.add(
                f"`hosts: {wanted}` selects no host", where(()),
                "if none is right, say `expect_hosts: 0`",
            )
            return None
        return found

    def _estimates(
        self, unit: Unit, kind: type[Kind], nodes: int, sizes: tuple[int, ...], seconds: float,
        undo_seconds: float | None,
    ) -> tuple[float, float]:
        """(doing, undoing) of the whole step. A written estimate is for the whole step; the
        kind's own (``seconds``, ``undo_seconds``) is for one node, and nodes go ``batch`` or
        ``max_parallel`` at a time."""
        if not nodes:
            return 0.0, 0.0
        most = max(1, self.runbook.policy.max_parallel)
        batches = _batches(nodes, sizes)
        rounds = sum(math.ceil(size / most) for size in batches)
        written = unit.step.estimate
        soaked = unit.step.soak * (len(batches) - 1)
        do = seconds * rounds + soaked if written is None else written
        if unit.step.estimate_undo is not None:
            return do, unit.step.estimate_undo
        if kind.check:
            return do, 0.0
        if undo_seconds is None:
            # The way back has no ramp and soaks nowhere.
            return do, max(0.0, do - soaked)
        return do, undo_seconds * rounds

    def _title(self, unit: Unit) -> str:
        title = unit.step.title
        if not is_template(title) or unit.skipped is not None:
            return title
        return self._text(unit, title, "title") or ""

    def _irreversible(self, unit: Unit) -> str | None:
        undo = unit.step.undo
        if undo is False:
            return "the runbook says that there is no way back"
        if isinstance(undo, dict):
            return self._text(unit, str(undo.get("irreversible", "")), "undo") or ""
        return None

    def _text(self, unit: Unit, text: str, key: str) -> str | None:
        def where(path: ValuePath) -> Position:
            return unit.step.position(key)

        facts = self.renderer.scan(text, unit.scope, where, owner=unit.id)
        if facts.late:
            self.problems.add(f"`{key}` cannot depend on outputs", where(()))
            return None
        made = self.renderer.render(text, unit.scope, where, facts)
        return None if made is None else str(made)


def _share(value: int | str, nodes: int, *, least: int = 1) -> int:
    """A number of nodes, or a percentage of them rounded down."""
    if isinstance(value, int):
        return value
    return max(least, math.floor(nodes * int(value.rstrip("%")) / 100))


def _batches(nodes: int, sizes: tuple[int, ...]) -> list[int]:
    """Sizes of the batches that so many nodes go in."""
    ramp = list(sizes[:-1])
    found = []
    while nodes > 0:
        size = min(nodes, ramp.pop(0) if ramp else sizes[-1] if sizes else nodes)
        found.append(size)
        nodes -= size
    return found


def _is_late(node: Node) -> bool:
    return node.late or any(check.late for check in (*node.requires, *node.verify))

