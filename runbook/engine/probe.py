"""The probe rehearsal: ``observe`` against the real world, and nothing else.

It cannot change anything, since a kind's ``observe`` is given no way to write. What a step
*would* do is worked out from what is there now; steps whose starting point only exists after
earlier steps are counted as such, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from runbook.engine.actions_json import to_json
from runbook.engine.reads import NodeReads
from runbook.errors import NotFound, RunbookError, TemplateFault
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.ports import World
from runbook.model.runstate import RunState
from runbook.templating import render_tree
from runbook.templating.outputs import late_scope

How = Literal["read", "simulated", "skipped", "unknown"]


class Probed(BaseModel):
    """What a probe learned of one node.

    ``how``: *read* from the world; *simulated* with pretended outputs; *skipped* because it
    depends on what earlier steps will do, or because nothing of it can be seen beforehand;
    *unknown* because nobody could be asked.
    """

    model_config = ConfigDict(frozen=True)

    node: str
    step: str
    how: How
    would: tuple[dict[str, Any], ...] = ()
    """Actions the step would perform now."""
    says: str = ""
    undo: str = ""
    """Whether what it would do can be undone: ``yes``, ``nothing to undo``, or why not."""
    problem: bool = False
    """Something a person should mend before the run."""


class ProbeReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    digest: str
    nodes: tuple[Probed, ...]

    @property
    def counts(self) -> dict[str, int]:
        names: tuple[How, ...] = ("read", "simulated", "skipped", "unknown")
        return {how: sum(n.how == how for n in self.nodes) for how in names}

    @property
    def fidelity(self) -> float:
        """Part of the nodes that were read from the real world, 0 to 1."""
        return self.counts["read"] / len(self.nodes) if self.nodes else 1.0

    @property
    def ok(self) -> bool:
        return not any(n.problem for n in self.nodes)


def probe(plan: Plan, world: World, kinds: Mapping[str, type[Kind]]) -> ProbeReport:
    """Observe every node of a plan, in plan order. Never writes; never raises for one node."""
    state = RunState.empty("probe", plan)
    silent = _silent_hosts(plan, world)
    pretended: dict[str, Mapping[str, Any]] = {}
    found: list[Probed] = []
    touched = False
    for step in plan.steps:
        for node in step.nodes:
            if node.host in silent:
                found.append(Probed(node=node.id, step=step.id, how="unknown",
                                    says=silent[node.host], problem=True))
                continue
            one = _probe_node(plan, state, world, kinds[step.kind], step, node, pretended,
                              touched)
            found.append(one)
        if step.rehearse:
            pretended[step.id] = step.rehearse
        touched = touched or any(n.would for n in found if n.step == step.id)
    return ProbeReport(digest=plan.digest, nodes=tuple(found))


def _silent_hosts(plan: Plan, world: World) -> dict[str | None, str]:
    """Hosts of the plan that cannot be asked, and why: also of steps that would not look."""
    silent: dict[str | None, str] = {}
    for host in dict.fromkeys(node.host for step in plan.steps for node in step.nodes):
        try:
            world.host(host).query("true")
        except RunbookError as fault:
            silent[host] = fault.message + (f" ({fault.hint})" if fault.hint else "")
    return silent


class _ProbeReads(NodeReads):
    """Reads with pretended outputs in place of those of steps that did not run."""

    def __init__(self, plan: Plan, state: RunState, world: World, node: Node,
                 pretended: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(plan, state, world, node, node.host)
        self._pretended = pretended
        self.used_pretended = False

    def outputs(self, step: str) -> Mapping[str, Any]:
        if step in self._pretended:
            self.used_pretended = True
            return self._pretended[step]
        return super().outputs(step)


def _probe_node(
    plan: Plan, state: RunState, world: World, kind_class: type[Kind], step: PlannedStep,
    node: Node, pretended: dict[str, Mapping[str, Any]], touched: bool,
) -> Probed:
    reads = _ProbeReads(plan, state, world, node, pretended)

    def told(how: How, says: str, **more: Any) -> Probed:
        return Probed(node=node.id, step=step.id, how=how, says=says, **more)

    try:
        args = node.args
        if node.late:
            scope = late_scope(plan, step, node, lambda name: pretended.get(name, {}))
            args = render_tree(args, scope, late=True)
        kind = kind_class.model_validate(args)
    except (TemplateFault, ValueError) as fault:
        if node.late:
            return told("skipped", "needs outputs of earlier steps")
        return told("unknown", str(fault), problem=True)
    try:
        now = kind.observe(reads)
        planned = kind.plan(now)
        verdict = kind.verify(now, now)
    except NotFound as fault:
        return told("skipped", f"depends on earlier steps: {fault.message}")
    except RunbookError as fault:
        return told("unknown", fault.message + (f" ({fault.hint})" if fault.hint else ""),
                    problem=True)
    except ValueError as fault:
        return told("unknown", str(fault), problem=True)
    if kind_class.check and verdict.ok:
        # What a check found is a fact of the world and may feed later steps of the probe.
        pretended[step.id] = verdict.outputs
    blind = bool(planned.actions) and not now.state
    pretend = reads.used_pretended or (node.late and bool(pretended))
    how: How = "skipped" if blind else "simulated" if pretend else "read"
    if now.unknown:
        how = "unknown"
    if kind_class.check and not verdict.ok:
        if touched:
            return told("skipped", f"would hold only after earlier steps; now: {verdict.seen}")
        return told(how, verdict.seen, problem=True)
    if not planned.actions:
        says = verdict.seen if kind_class.check else planned.reason or verdict.seen
        return told(how, says, undo="nothing to undo")
    return told(how, "", would=tuple(to_json(a) for a in planned.actions),
                undo=_undo_words(kind, step, node, now))


def _undo_words(kind: Kind, step: PlannedStep, node: Node, now: Observation) -> str:
    if step.irreversible:
        return f"no: {step.irreversible}"
    if node.undo is not None:
        return "yes, by its undo command"
    back = kind.undo(now)
    if isinstance(back, Irreversible):
        return f"no: {back.why}"
    return "yes" if back else "nothing to undo"
