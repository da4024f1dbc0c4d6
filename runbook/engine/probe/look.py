"""Looking at every node of a plan, in plan order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from runbook.engine.actions_json import to_json
from runbook.engine.mishaps import words
from runbook.engine.probe.acts import file_changes, needs_of, places, undo_command_reads
from runbook.engine.probe.caches import Caches
from runbook.engine.probe.drift import standing
from runbook.engine.probe.hosts import look_at_hosts
from runbook.engine.probe.report import How, NeedSeen, Probed, ProbeReport, judged
from runbook.engine.reads import NodeReads
from runbook.errors import Errored, NotFound, Refused, RunbookError, TemplateFault
from runbook.model.actions import PutFile, RunCommand
from runbook.model.kind import Kind
from runbook.model.need import ANY_STEP, EVERYWHERE, Need, coming, in_database, on_host
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.plan import Check, Node, Plan, PlannedStep
from runbook.model.ports import World
from runbook.model.runstate import RunState
from runbook.templating import render_tree
from runbook.templating.outputs import late_scope


def probe(plan: Plan, world: World, kinds: Mapping[str, type[Kind]]) -> ProbeReport:
    """Observe every node of a plan, in plan order. Never writes; never raises for one node."""
    secrets = _secrets(plan, world)
    hosts = look_at_hosts(plan, world)
    looking = _Looking(plan, world, kinds, {
        one.name or None: one.says for one in hosts if not one.answers
    })
    caches = Caches(plan, world)
    nodes = []
    for node in looking.nodes():
        caches.see(node)
        nodes.append(node)
    return ProbeReport(
        digest=plan.digest, nodes=tuple(nodes), hosts=hosts, secrets=secrets,
        caches=caches.told(),
    )


def _secrets(plan: Plan, world: World) -> NeedSeen | None:
    if not plan.secrets:
        return None
    what = "every secret can be read"
    try:
        world.prepare((), {})
    except RunbookError as fault:
        return NeedSeen(what=what, state="unmet", seen=fault.message, hint=fault.hint)
    return NeedSeen(what=what, state="met")


class _ProbeReads(NodeReads):
    """Reads with pretended outputs in place of those of steps that did not run."""

    def __init__(self, plan: Plan, state: RunState, world: World, node: Node, host: str | None,
                 pretended: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(plan, state, world, node, host)
        self._pretended = pretended
        self.used_pretended = False

    def outputs(self, step: str) -> Mapping[str, Any]:
        if step in self._pretended:
            self.used_pretended = True
            return self._pretended[step]
        return super().outputs(step)


@dataclass(frozen=True, slots=True)
class _Looked:
    """``there``: the places where the node would act. ``outputs``: what a check found that holds;
    a fact of the world, which may feed later steps of the probe."""

    probed: Probed
    there: frozenset[str] = frozenset()
    outputs: Mapping[str, Any] | None = None


class _Looking:
    """One probe. What the steps before would have done is kept, as far as it changes what can be
    said of those after them."""

    def __init__(
        self, plan: Plan, world: World, kinds: Mapping[str, type[Kind]],
        silent: Mapping[str | None, str],
    ) -> None:
        self._plan = plan
        self._world = world
        self._kinds = kinds
        self._silent = silent
        self._state = RunState.empty("probe", plan)
        self._pretended: dict[str, Mapping[str, Any]] = {}
        self._touched = False
        """A step before would act."""
        self._acted: frozenset[str] = frozenset()
        """Places where one would."""
        self._opened = frozenset(
            place for one in plan.databases if one.later
            for place in (coming(one.name), in_database(one.name))
        )
        """Those where what it does is not known, and may be just what a later step needs."""
        now = world.clock.now()
        self._until = max(now, plan.window.end) if plan.window is not None else now

    def nodes(self) -> Iterator[Probed]:
        """Those of one step side by side: they do not come after each other."""
        for step in self._plan.steps:
            for looked in self._step(step):
                yield looked.probed
                self._acted |= looked.there
                if not self._kinds[step.kind].contained:
                    self._opened |= looked.there
                if looked.outputs is not None:
                    self._pretended[step.id] = looked.outputs
                if looked.probed.would:
                    self._touched = True
                    self._opened |= {ANY_STEP}
            if step.rehearse:
                self._pretended[step.id] = step.rehearse

    def _step(self, step: PlannedStep) -> list[_Looked]:
        if len(step.nodes) < 2:
            return [self._node(step, node) for node in step.nodes]
        with ThreadPoolExecutor(max(1, self._plan.policy.max_parallel)) as pool:
            return list(pool.map(lambda node: self._node(step, node), step.nodes))

    def _node(self, step: PlannedStep, node: Node) -> _Looked:
        def told(how: How, says: str, **more: Any) -> Probed:
            return Probed(node=node.id, step=step.id, how=how, says=says, **more)

        if step.skipped is not None:
            return _Looked(told("skipped", f"left out: {step.skipped}"))
        if node.host in self._silent:
            return _Looked(told("unknown", self._silent[node.host], problem=True))
        reads = self._reads(node, node.host)
        try:
            kind = self._kind(step, node, step.kind, node.args, node.late)
        except (TemplateFault, ValueError) as fault:
            if node.late:
                # It may do anything there: nobody knows with what.
                there = frozenset({on_host(node.host)})
                return _Looked(told("skipped", "needs outputs of earlier steps"), there)
            return _Looked(told("unknown", str(fault), problem=True))
        now: Observation | None = None
        try:
            now = kind.observe(reads)
            planned = kind.plan(now)
            verdict = kind.verify(now, now)
        except (RunbookError, ValueError) as fault:
            there = _places_of(kind, node)
            how, says, problem = self._at_fault(fault, kind, there)
            needs = self._needs(step, node, kind, reads, now, Planned())
            acts = how == "skipped" and not kind.check
            return _Looked(
                told(how, says, problem=problem, needs=needs), there if acts else frozenset()
            )
        found = self._found(step, node, kind, reads, now, planned, verdict).model_copy(update={
            "needs": self._needs(step, node, kind, reads, now, planned),
            "stands": standing(now.state, self._world.redact),
        })
        return _Looked(
            found, places(planned.actions, self._plan),
            verdict.outputs if kind.check and verdict.ok else None,
        )

    def _found(
        self, step: PlannedStep, node: Node, kind: Kind, reads: _ProbeReads, now: Observation,
        planned: Planned, verdict: Verdict,
    ) -> Probed:
        def told(how: How, says: str, **more: Any) -> Probed:
            return Probed(node=node.id, step=step.id, how=how, says=says, **more)

        blind = bool(planned.actions) and not now.state
        pretend = reads.used_pretended or (node.late and bool(self._pretended))
        how: How = "skipped" if blind else "simulated" if pretend else "read"
        if now.unknown:
            how = "unknown"
        if kind.check and not verdict.ok:
            if self._touched:
                return told("skipped", f"would hold only after earlier steps; now: {verdict.seen}")
            return told(how, verdict.seen, problem=True)
        if not planned.actions:
            says = verdict.seen if kind.check else planned.reason or verdict.seen
            return told(how, says, undo="nothing to undo")
        return told(
            how, "", would=tuple(to_json(a) for a in planned.actions),
            changes=self._changes(kind, reads, now, planned),
            undo=_undo_words(kind, step, node, now),
        )

    def _at_fault(
        self, fault: RunbookError | ValueError, kind: Kind, there: frozenset[str]
    ) -> tuple[How, str, bool]:
        """What it means that a node could not be looked at, or would refuse to act now."""
        if isinstance(fault, NotFound):
            return "skipped", f"depends on earlier steps: {fault.message}", False
        if not isinstance(fault, RunbookError):
            return "unknown", str(fault), True
        says = words(fault)
        later = [one.name for one in self._plan.databases
                 if one.later and one.name in kind.databases()]
        if isinstance(fault, Errored) and later:
            return "skipped", f"{', '.join(later)} comes to be during the run; now: {says}", False
        if isinstance(fault, Refused) and (there & self._acted or EVERYWHERE in self._opened):
            return "skipped", f"would act only after earlier steps; now: {says}", False
        return "unknown", says, True

    def _needs(
        self, step: PlannedStep, node: Node, kind: Kind, reads: _ProbeReads,
        now: Observation | None, planned: Planned,
    ) -> tuple[NeedSeen, ...]:
        found: list[Need] = []
        try:
            found += kind.needs(reads, now)
            found += needs_of(_as_the_step(planned, step), reads)
            for check in (*node.requires, *node.verify):
                found += self._needs_of_check(step, node, check)
        except (RunbookError, ValueError) as fault:
            # A kind of another package that does not keep to the contract.
            found.append(Need(what=f"what {step.kind} needs can be seen", ok=None, seen=str(fault)))
        if node.undo is not None and not step.irreversible:
            found.append(undo_command_reads(reads, node.undo))
        first: dict[str, Need] = {}
        for one in found:
            first.setdefault(one.what, one)
        seen = [judged(one, self._opened, until=self._until) for one in first.values()]
        seen += [self._required(step, node, check) for check in node.requires]
        redact = self._world.redact
        return tuple(
            one.model_copy(update={"seen": redact(one.seen), "fact": redact(one.fact)})
            for one in seen
        )

    def _needs_of_check(self, step: PlannedStep, node: Node, check: Check) -> tuple[Need, ...]:
        """What a check relies on, such as a certificate; nothing where it is not known yet."""
        try:
            kind = self._kind(step, node, check.kind, check.args, check.late)
        except (TemplateFault, ValueError):
            return ()
        return kind.needs(self._reads(node, check.host or node.host), None)

    def _required(self, step: PlannedStep, node: Node, check: Check) -> NeedSeen:
        """One of the step's own ``requires:``."""
        what = f"requires {check.kind}"
        try:
            kind = self._kind(step, node, check.kind, check.args, check.late)
            what += f": {', '.join(kind.preview())}"
            seen = kind.observe(self._reads(node, check.host or node.host))
            verdict = kind.verify(seen, seen)
        except (TemplateFault, NotFound) as fault:
            return NeedSeen(what=what, state="skipped", seen=fault.message)
        except (RunbookError, ValueError) as fault:
            return NeedSeen(what=what, state="unknown", seen=str(fault))
        if verdict.ok:
            return NeedSeen(what=what, state="met", seen=verdict.seen)
        return NeedSeen(
            what=what, state="skipped" if self._touched else "unmet", seen=verdict.seen
        )

    def _changes(
        self, kind: Kind, reads: _ProbeReads, now: Observation, planned: Planned
    ) -> tuple[str, ...]:
        lines: list[str] = []
        try:
            lines += kind.would_change(reads, now)
            for action in planned.actions:
                if isinstance(action, PutFile):
                    lines += file_changes(action, reads)
        except (RunbookError, ValueError) as fault:
            lines.append(f"what would change cannot be seen: {fault}")
        return tuple(self._world.redact(line) for line in lines)

    def _kind(
        self, step: PlannedStep, node: Node, name: str, args: Mapping[str, Any], late: bool
    ) -> Kind:
        """Raises TemplateFault and ValueError."""
        if late:
            scope = late_scope(
                self._plan, step, node, lambda name: self._pretended.get(name, {})
            )
            args = render_tree(args, scope, late=True)
        return self._kinds[name].model_validate(dict(args))

    def _reads(self, node: Node, host: str | None) -> _ProbeReads:
        return _ProbeReads(self._plan, self._state, self._world, node, host, self._pretended)


def _places_of(kind: Kind, node: Node) -> frozenset[str]:
    """Where a node looks, and would act."""
    databases = frozenset(map(in_database, kind.databases()))
    if databases and node.host is None:
        return databases
    return databases | {on_host(node.host)}


def _as_the_step(planned: Planned, step: PlannedStep) -> Iterable[Any]:
    """Its actions, by the user that the step acts as."""
    for action in planned.actions:
        acts = isinstance(action, RunCommand | PutFile) and step.run_as and not action.run_as
        yield action.model_copy(update={"run_as": step.run_as}) if acts else action


def _undo_words(kind: Kind, step: PlannedStep, node: Node, now: Observation) -> str:
    if step.irreversible:
        return f"no: {step.irreversible}"
    if node.undo is not None:
        return "yes, by its undo command"
    back = kind.undo(now)
    if isinstance(back, Irreversible):
        return f"no: {back.why}"
    return "yes" if back else "nothing to undo"
