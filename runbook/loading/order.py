"""The order of steps: written, ``parallel:`` and ``after:``, all brought down to ``after``.

A step comes after the one written above it. The members of a ``parallel:`` group all come after
what stands above the group, and what stands below comes after all of them. ``after:`` takes the
place of that, and can name a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from runbook.loading.fields import Context, Fields, check_id, describe
from runbook.loading.steps import StepReader
from runbook.model.runbook import Step, ValuePath
from runbook.templating.values import did_you_mean

_GROUP_KEYS = ("id", "title", "parallel")


@dataclass(frozen=True, slots=True)
class _Placed:
    step: Step
    default: tuple[str, ...]


def read_steps(ctx: Context, reader: StepReader, raw: Any, path: ValuePath) -> tuple[Step, ...]:
    """A ``steps:`` list in written order, each step with its explicit ``after``."""
    if not isinstance(raw, list):
        ctx.fault(path, f"`steps` wants a list, not {describe(raw)}",
                  "every step starts with `- id: …`")
        return ()
    return _Sequence(ctx, reader, path).read(raw)


class _Sequence:
    def __init__(self, ctx: Context, reader: StepReader, path: ValuePath) -> None:
        self._ctx = ctx
        self._reader = reader
        self._path = path
        self._placed: list[_Placed] = []
        self._groups: dict[str, tuple[str, ...]] = {}
        self._taken: dict[str, ValuePath] = {}

    def read(self, raw: list[Any]) -> tuple[Step, ...]:
        before: tuple[str, ...] = ()
        for index, item in enumerate(raw):
            path = (*self._path, index)
            if isinstance(item, dict) and "parallel" in item:
                before = self._group(item, path, before) or before
            else:
                id_ = self._one(item, path, before)
                before = (id_,) if id_ else before
        steps = tuple(
            placed.step.model_copy(update={"after": self._after(placed)})
            for placed in self._placed
        )
        self._check_cycle(steps)
        return steps

    def _one(self, item: Any, path: ValuePath, before: tuple[str, ...]) -> str | None:
        step = self._reader.read(item, path)
        if step is None or not self._take(step.id, (*path, "id")):
            return None
        self._placed.append(_Placed(step, before))
        return step.id

    def _take(self, id_: str, path: ValuePath) -> bool:
        if id_ in self._taken:
            line = self._ctx.at(self._taken[id_]).line
            self._ctx.fault(path, f"the id `{id_}` is taken", f"it was first given at line {line}")
            return False
        self._taken[id_] = path
        return True

    def _group(
        self, item: dict[str, Any], path: ValuePath, before: tuple[str, ...]
    ) -> tuple[str, ...]:
        fields = Fields(self._ctx, path, item, _GROUP_KEYS, "a `parallel` group")
        inner = fields.where("parallel")
        if item["parallel"] is None:
            fields.wrong("parallel", "a list of steps", None)
        members = [
            self._one(one, (*inner, index), before)
            for index, one in enumerate(fields.listing("parallel"))
        ]
        found = tuple(id_ for id_ in members if id_)
        name = fields.raw_text("id")
        if (
            name is not None
            and check_id(self._ctx, fields.where("id"), "an id", name)
            and self._take(name, fields.where("id"))
        ):
            self._groups[name] = found
        return found

    def _after(self, placed: _Placed) -> tuple[str, ...]:
        path = (*placed.step.path, "after")
        raw = self._raw(path)
        if raw is None:
            return placed.default
        items = raw if isinstance(raw, list) else [raw]
        found: dict[str, None] = {}
        for index, item in enumerate(items):
            where = (*path, index) if isinstance(raw, list) else path
            if not isinstance(item, str):
                self._ctx.fault(where, f"`after` wants ids of steps, not {describe(item)}")
            elif item == placed.step.id:
                self._ctx.fault(where, f"step `{item}` cannot come after itself")
            elif item in self._groups:
                found.update(dict.fromkeys(self._groups[item]))
            elif item in self._taken:
                found[item] = None
            else:
                self._ctx.fault(
                    where, f"there is no step `{item}` here", did_you_mean(item, self._taken)
                )
        return tuple(found)

    def _raw(self, path: ValuePath) -> Any:
        value = self._ctx.document.value
        for part in path[:-1]:
            value = value[part]
        return value.get(path[-1])

    def _check_cycle(self, steps: tuple[Step, ...]) -> None:
        by_id = {step.id: step for step in steps}
        sorter = TopologicalSorter({step.id: step.after or () for step in steps})
        try:
            sorter.prepare()
        except CycleError as fault:
            cycle = list(reversed(fault.args[1]))
            written = [one for one in cycle if self._raw((*by_id[one].path, "after")) is not None]
            first = by_id[written[0] if written else cycle[0]]
            waits = " → ".join(cycle)
            self._ctx.fault(
                (*first.path, "after"), f"steps wait for each other: {waits}",
                "each waits for the next; a step without `after` waits for the one above it",
            )
