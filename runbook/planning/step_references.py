"""Steps that refer to other steps: outputs in templates, and ids in the fields of kinds.

Both are checked when the whole graph is known: what is read must exist, must give that output,
and must come before the step that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.errors import Position
from runbook.model.kind import Kind
from runbook.model.plan import PlannedStep, index_output_keys, output_key
from runbook.model.problems import Problems
from runbook.model.runbook import ValuePath
from runbook.planning.expand import Expansion, Unit
from runbook.planning.rendering import LateReference
from runbook.templating.references import references
from runbook.templating.values import did_you_mean


@dataclass(frozen=True, slots=True)
class _Named:
    """A step that names another in a field of its kind."""

    owner: str
    target: str
    position: Position


class StepReferences:
    """Collects references while steps are planned; :meth:`check` judges them at the end."""

    def __init__(self, expansion: Expansion, problems: Problems) -> None:
        self._made = expansion
        self._problems = problems
        self._ids = {unit.id for unit in expansion.units}
        self._keys = index_output_keys(
            (*self._ids, *expansion.calls, *(
                name for name in expansion.groups.groups() if name not in expansion.calls
            ))
        )
        self._named: list[_Named] = []

    @property
    def any(self) -> bool:
        """Whether a kind named a step."""
        return bool(self._named)

    def complete(
        self, unit: Unit, kind: type[Kind], made: Kind, args: dict[str, Any],
        where: Callable[[ValuePath], Position],
    ) -> dict[str, Any]:
        """The arguments with every id of a step that the kind reads made a full id."""
        for name in made.references():
            full = unit.scope.prefix + name
            key = next((k for k, v in args.items() if v == name or _holds(v, name)), None)
            at = where(() if key is None else (key,))
            if full not in self._ids and name in self._ids:
                full = name
            if full not in self._ids:
                self._problems.add(f"there is no step {name!r}", at, self._near(unit, name))
                continue
            self._named.append(_Named(unit.id, full, at))
            if full != name:
                args = _replaced(kind, args, name, full)
        return args

    def _near(self, unit: Unit, name: str) -> str:
        full = unit.scope.prefix + name
        several = self._made.groups.members(full)
        if several:
            return "it stands for several steps; name one: " + ", ".join(
                self._made.groups.steps(full)[:6]
            )
        cut = len(unit.scope.prefix)
        near = (one[cut:] for one in self._ids if one.startswith(unit.scope.prefix))
        return did_you_mean(name, near)

    def check(
        self, steps: Mapping[str, PlannedStep], before: Mapping[str, int], order: list[str],
        late: list[LateReference], kinds: Mapping[str, type[Kind]],
    ) -> None:
        """``before``: for each step the steps before it, as bits by place in ``order``."""
        place = {name: index for index, name in enumerate(order)}
        for named in self._named:
            if not before[named.owner] >> place[named.target] & 1:
                self._too_early(named.target, named.position, named.owner, before, place)
        for one in late:
            owned = self._owner_bits(one.owner, before, place)
            for target in self._resolve(one, steps, kinds):
                if owned is not None and not owned >> place[target] & 1:
                    self._too_early(target, one.position, one.owner, before, place)

    def _owner_bits(
        self, owner: str, before: Mapping[str, int], place: Mapping[str, int]
    ) -> int | None:
        """What has run when the owner of a value looks at it; None: it is looked at by others
        than its owner (the output of a call)."""
        if owner in before:
            return before[owner]
        after = self._made.entries.get(owner)
        if after is None:
            return None
        bits = 0
        for name in after:
            for step in self._made.groups.steps(name):
                if step in before:
                    bits |= before[step] | 1 << place[step]
        return bits

    def _too_early(
        self, target: str, position: Position, owner: str, before: Mapping[str, int],
        place: Mapping[str, int],
    ) -> None:
        """What comes later, or is the step itself, cannot be made to come before it: that would
        be a circle."""
        readers = [one for one in place if one == owner or one.startswith(f"{owner}/")]
        name = target.rpartition("/")[2]
        if target in readers:
            message = f"step {target!r} reads what it gives itself: that does not exist yet"
            hint = "read what an earlier step gives"
        elif any(before[target] >> place[one] & 1 for one in readers):
            message = f"step {target!r} comes after this one: its outputs would not exist yet"
            hint = (
                f"move what reads them behind {name}, or take {name} out from behind this step "
                "(`after:`; a step without it comes after the one above it)"
            )
        else:
            message = (
                f"step {target!r} does not come before this one: its outputs would not exist yet"
            )
            hint = f"add {name} to `after:`"
        self._problems.add(message, position, hint)

    def _resolve(
        self, one: LateReference, steps: Mapping[str, PlannedStep],
        kinds: Mapping[str, type[Kind]],
    ) -> list[str]:
        """The steps a reference reads; faults are collected."""
        path = one.reference.path
        if len(path) < 2:
            return []
        key, rest = path[1], path[2:]
        found = [
            name for name in self._keys.get(output_key(one.prefix + key), ())
            if name.startswith(one.prefix)
        ]
        if len(found) != 1:
            cut = len(one.prefix)
            known = {output_key(n[cut:]) for n in (*self._ids, *self._made.calls)
                     if n.startswith(one.prefix)}
            message = f"there is no step `{key}`"
            if found:
                message = f"`outputs.{key}` may mean " + " or ".join(sorted(found))
            self._problems.add(message, one.position, did_you_mean(key, known))
            return []
        name = found[0]
        if name in self._made.calls:
            return self._of_call(name, rest, one, steps, kinds)
        if name not in self._ids:
            made = ", ".join(f"outputs.{output_key(n)}" for n in self._made.groups.steps(name)[:4])
            self._problems.add(
                f"`foreach` made several steps of {name!r}", one.position, f"name one: {made}"
            )
            return []
        if name not in steps:
            return []
        self._output(steps[name], rest, one, kinds)
        return [name]

    def _of_call(
        self, call: str, rest: tuple[str, ...], one: LateReference,
        steps: Mapping[str, PlannedStep], kinds: Mapping[str, type[Kind]],
    ) -> list[str]:
        playbook, scope = self._made.calls[call]
        if not rest or rest[0] not in playbook.outputs:
            wanted = rest[0] if rest else ""
            self._problems.add(
                f"playbook {playbook.name} has no output `{wanted}`" if rest
                else f"say which output of {call!r}",
                one.position, did_you_mean(wanted, playbook.outputs),
            )
            return []
        found: list[str] = []
        for reference in references(playbook.outputs[rest[0]]):
            if reference.path[0] == "outputs":
                inner = LateReference(reference, scope.prefix, one.owner, one.position)
                found += self._resolve(inner, steps, kinds)
        return found

    def _output(
        self, step: PlannedStep, rest: tuple[str, ...], one: LateReference,
        kinds: Mapping[str, type[Kind]],
    ) -> None:
        if one.reference.guarded:
            return
        if step.skipped is not None:
            self._problems.add(
                f"step {step.id!r} is skipped ({step.skipped}), so it gives no outputs",
                one.position, "give a default: outputs.… | default(…)",
            )
            return
        known = {*step.outputs, *kinds[step.kind].output_names}
        if rest and rest[0] == "by_host":
            hosts = {str(node.host) for node in step.nodes}
            if len(rest) > 1 and rest[1] not in hosts:
                self._problems.add(
                    f"step {step.id!r} does not run on {rest[1]!r}", one.position,
                    did_you_mean(rest[1], hosts),
                )
            rest = rest[2:]
        elif len(step.nodes) > 1 and rest:
            self._problems.add(
                f"step {step.id!r} runs on {len(step.nodes)} hosts, and each has its outputs",
                one.position,
                f"outputs.{output_key(step.id)}.by_host['{step.nodes[0].host}'].{rest[0]}",
            )
            return
        if rest and rest[0] not in known:
            self._problems.add(
                f"step {step.id!r} ({step.kind}) gives no output `{rest[0]}`", one.position,
                did_you_mean(rest[0], known) or "name its outputs under `outputs:`",
            )


def _holds(value: Any, name: str) -> bool:
    return isinstance(value, list) and name in value


def _replaced(kind: type[Kind], args: dict[str, Any], name: str, full: str) -> dict[str, Any]:
    """The argument that the kind reads as the step's id, and no other that looks like it."""
    for key, value in args.items():
        if value == name:
            new: Any = full
        elif _holds(value, name):
            new = [full if item == name else item for item in value]
        else:
            continue
        tried = {**args, key: new}
        if full in kind.model_validate(tried).references():
            return tried
    return args
