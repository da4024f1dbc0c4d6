"""The scope of values that are rendered late, when a node starts.

``outputs.STEP.NAME`` is the output NAME of an earlier step. STEP is the step's id with ``-`` and
``/`` written as ``_``. Inside a playbook ids are looked up among the playbook's own steps; a
playbook call is looked up like a step, and its outputs are rendered from those of its steps. A
step on several hosts has its outputs under ``outputs.STEP.by_host['HOST'].NAME``.

``PlannedStep.scope`` holds JSON values alone: the variables a late template needs, hosts as
``{"__host__": name}``, the playbook the step belongs to under ``__prefix__`` (``"call/"``), and
under ``__late__`` the names that are themselves rendered late (a parameter that the caller took
from an output): ``{name: {"value": …, "scope": …}}`` with the caller's scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runbook.errors import TemplateFault
from runbook.model.inventory import Inventory
from runbook.model.plan import Node, Plan, PlannedStep, output_key
from runbook.model.selector import HostName
from runbook.templating import render, render_tree
from runbook.templating.scope import base_scope
from runbook.templating.values import Names, plain

PREFIX = "__prefix__"
LATE = "__late__"
_HOST = "__host__"

OutputsOf = Callable[[str], Mapping[str, Any]]


def outputs_scope(plan: Plan, outputs_of: OutputsOf, prefix: str = "") -> Names:
    """The value of ``outputs``, read on demand. ``prefix`` is ``""`` or ``"call/"``.

    ``outputs_of`` is called with ids of real steps only, and only for those a template reads.
    """
    return Names(_Steps(plan, outputs_of, prefix))


def late_scope(
    plan: Plan, step: PlannedStep, node: Node | None, outputs_of: OutputsOf
) -> dict[str, Any]:
    """Everything a late template of the step may use. Raises TemplateFault."""
    scope = _open(plan, step.scope, outputs_of)
    if node is not None and node.host is not None:
        host = plan.inventory.get(node.host)
        if host is not None:
            scope["host"] = HostName(host)
    return scope


def pack(value: Any) -> Any:
    """A variable as it is kept in ``PlannedStep.scope``. Raises TemplateFault."""
    if isinstance(value, HostName):
        return {_HOST: str(value)}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): pack(item) for key, item in value.items()}
    return plain(value)


def unpack(value: Any, inventory: Inventory) -> Any:
    """The reverse of :func:`pack`."""
    if isinstance(value, list):
        return [unpack(item, inventory) for item in value]
    if isinstance(value, Mapping):
        if set(value) == {_HOST}:
            host = inventory.get(str(value[_HOST]))
            return value[_HOST] if host is None else HostName(host)
        return {key: unpack(item, inventory) for key, item in value.items()}
    return value


def _open(plan: Plan, packed: Mapping[str, Any], outputs_of: OutputsOf) -> dict[str, Any]:
    scope = base_scope(
        runbook=plan.runbook, title=plan.title, owner=plan.owner, window=plan.window,
        inventory=plan.inventory, secrets=(secret.name for secret in plan.secrets),
    )
    for name, value in packed.items():
        if name not in (PREFIX, LATE):
            scope[name] = unpack(value, plan.inventory)
    for name, binding in packed.get(LATE, {}).items():
        inner = _open(plan, binding["scope"], outputs_of)
        scope[name] = unpack(render_tree(binding["value"], inner, late=True), plan.inventory)
    for name in ("params", "vars"):
        if name in scope:
            late = {key: scope[key] for key in packed.get(LATE, {}) if key in scope}
            scope[name] = Names({**scope[name], **late} if name == "params" else scope[name])
    scope["outputs"] = outputs_scope(plan, outputs_of, str(packed.get(PREFIX, "")))
    return scope


class _Steps(Mapping[str, Any]):
    """Outputs by written key, for one prefix."""

    def __init__(self, plan: Plan, outputs_of: OutputsOf, prefix: str) -> None:
        self._plan = plan
        self._outputs_of = outputs_of
        self._prefix = prefix

    def __getitem__(self, key: str) -> Names:
        found = [
            one
            for one in self._plan.output_keys.get(output_key(self._prefix + key), ())
            if one.startswith(self._prefix)
        ]
        if len(found) != 1:
            raise KeyError(key)
        if found[0] in self._plan.by_id:
            return Names(self._of_step(self._plan.by_id[found[0]]))
        return Names(_CallOutputs(self._plan, found[0], self._outputs_of))

    def _of_step(self, step: PlannedStep) -> Mapping[str, Any]:
        found = dict(self._outputs_of(step.id))
        if len(step.nodes) == 1 and step.nodes[0].host is not None:
            found.setdefault("by_host", {step.nodes[0].host: dict(found)})
        return found

    def __iter__(self) -> Iterator[str]:
        ids = (*(step.id for step in self._plan.steps), *self._plan.playbook_outputs)
        cut = len(self._prefix)
        return iter(output_key(one[cut:]) for one in ids if one.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _CallOutputs(Mapping[str, Any]):
    """Outputs of a playbook call, each rendered when it is read."""

    def __init__(self, plan: Plan, call: str, outputs_of: OutputsOf) -> None:
        self._plan = plan
        self._call = call
        self._outputs_of = outputs_of

    def __getitem__(self, name: str) -> Any:
        template = self._plan.playbook_outputs[self._call][name]
        packed = self._plan.playbook_scopes.get(self._call, {PREFIX: f"{self._call}/"})
        try:
            return render(template, _open(self._plan, packed, self._outputs_of))
        except TemplateFault as fault:
            raise TemplateFault(f"output {name!r} of {self._call!r}: {fault.message}") from fault

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.playbook_outputs[self._call])

    def __len__(self) -> int:
        return len(self._plan.playbook_outputs[self._call])
