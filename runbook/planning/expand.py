"""Playbook calls and ``foreach`` unfolded into single steps; conditions decided where they can.

A step of a playbook has the id ``call/step`` (nested: ``a/b/c``). Its ``after`` stays inside the
playbook; its first steps come after what the call comes after, and what comes after the call
comes after the playbook's last steps. A ``foreach`` step becomes ``id-ITEM`` for short, distinct
items, else ``id-1``, ``id-2``, …; they run side by side, and followers wait for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from runbook.errors import TemplateFault
from runbook.model.problems import Problems
from runbook.model.runbook import OnFailure, Playbook, Runbook, Step
from runbook.planning.foreach import foreach_items, suffixes
from runbook.planning.groups import Groups
from runbook.planning.moments import parse_moment
from runbook.planning.parameters import bind_parameters
from runbook.planning.rendering import Renderer
from runbook.planning.scope import CALLER_WHEN, Scope, playbook_scope, top_scope
from runbook.templating import evaluate, is_template
from runbook.templating.values import did_you_mean

_DEEPEST = 20
_NOT_ON_CALLS = (
    "hosts", "expect_hosts", "retry", "timeout", "poll", "batch", "soak", "max_failures",
    "requires", "verify", "undo", "outputs", "estimate", "estimate_undo", "interrupt", "rehearse",
)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the steps of a playbook take over from the step that calls it."""

    on_failure: OnFailure | None = None
    run_as: str | None = None
    owner: str = ""
    tags: tuple[str, ...] = ()
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One step of the plan to be: what was written, and where it stands."""

    id: str
    step: Step
    scope: Scope
    after: tuple[str, ...]
    """Ids of steps, calls or ``foreach`` steps; :class:`Groups` knows which steps they mean."""
    inherited: Inherited
    when: str | None = None
    """A late condition."""
    skipped: str | None = None
    at: float | None = None
    """Unix seconds; also that of a call whose first step this is."""
    not_before: float | None = None
    no_return: bool = False


@dataclass(slots=True)
class Expansion:
    units: list[Unit] = field(default_factory=list)
    groups: Groups = field(default_factory=Groups)
    calls: dict[str, tuple[Playbook, Scope]] = field(default_factory=dict)
    """Playbook and inner scope of each call."""
    entries: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each call comes after."""


def expand(runbook: Runbook, renderer: Renderer, problems: Problems) -> Expansion:
    """All steps of a runbook, in written order. Faults are collected in ``problems``."""
    expander = _Expander(runbook, renderer, problems)
    inherited = Inherited(on_failure=runbook.policy.on_failure)
    expander.sequence(runbook.steps, top_scope(runbook), (), inherited, depth=0)
    return expander.made


class _Expander:
    def __init__(self, runbook: Runbook, renderer: Renderer, problems: Problems) -> None:
        self._runbook = runbook
        self._renderer = renderer
        self._problems = problems
        self.made = Expansion()
        self._ids: set[str] = set()

    def sequence(
        self, steps: tuple[Step, ...], scope: Scope, entry: tuple[str, ...],
        inherited: Inherited, *, depth: int,
    ) -> None:
        """Expand steps in written order; ``entry`` is what the first of them come after."""
        local = {step.id for step in steps}
        previous: str | None = None
        for step in steps:
            if step.after is None:
                after = entry if previous is None else (scope.prefix + previous,)
            else:
                for name in step.after:
                    if name not in local:
                        self._problems.add(
                            f"`after` names {name!r}, and there is no such step here",
                            step.position("after"), did_you_mean(name, local - {step.id}),
                        )
                after = tuple(scope.prefix + name for name in step.after) or entry
            self._step(step, scope, after, inherited, depth)
            previous = step.id

    def _step(
        self, step: Step, scope: Scope, after: tuple[str, ...], inherited: Inherited, depth: int
    ) -> None:
        full = scope.prefix + step.id
        if step.foreach is None or inherited.skipped:
            self._one(full, step, scope, after, inherited, depth)
            return
        items = foreach_items(step, scope, full, self._renderer, self._problems)
        if items is None:
            self._take_id(full, step)
            self.made.groups.step(full)
            return
        if not items:
            nothing = replace(inherited, skipped="`foreach` has no items")
            self._one(full, step, scope, after, nothing, depth)
            return
        names = [f"{full}-{suffix}" for suffix in suffixes(items)]
        self.made.groups.several(full, names)
        for name, item in zip(names, items, strict=True):
            self._one(name, step, scope.with_item(item), after, inherited, depth)

    def _take_id(self, full: str, step: Step) -> None:
        if full in self._ids:
            self._problems.add(
                f"two steps would have the id {full!r}", step.position("id"), "rename one"
            )
        self._ids.add(full)

    def _one(
        self, full: str, step: Step, scope: Scope, after: tuple[str, ...], inherited: Inherited,
        depth: int,
    ) -> None:
        self._take_id(full, step)
        skipped, when = inherited.skipped, None
        if skipped is None:
            skipped, when = self._condition(full, step, scope)
        here = replace(
            inherited,
            skipped=skipped,
            on_failure=step.on_failure or inherited.on_failure,
            run_as=self._text(full, step, "run_as", scope) or inherited.run_as,
            owner=step.owner or inherited.owner,
            tags=(*inherited.tags, *(t for t in step.tags if t not in inherited.tags)),
        )
        if step.playbook is not None:
            self._call(full, step, scope, after, here, when, depth)
            return
        self.made.groups.step(full)
        self.made.units.append(
            Unit(
                full, step, scope, after, here, when, skipped,
                self._moment(full, step, "at", scope),
                self._moment(full, step, "not_before", scope), step.point_of_no_return,
            )
        )

    def _condition(self, full: str, step: Step, scope: Scope) -> tuple[str | None, str | None]:
        """(why it is skipped, late condition)."""
        caller = CALLER_WHEN if CALLER_WHEN in scope.late else None
        if step.when is None or step.when is True:
            return None, caller
        if step.when is False:
            return "`when` is false", None
        text = step.when.strip()
        if is_template(text) and text.startswith("{{") and text.endswith("}}"):
            text = text[2:-2].strip()
        whole = "{{ " + text + " }}"
        facts = self._renderer.scan(whole, scope, lambda _: step.position("when"), owner=full)
        if not facts.ok:
            return None, None
        if facts.late:
            return None, f"{caller} and ({text})" if caller else text
        try:
            value = evaluate(whole, scope.values)
        except TemplateFault as fault:
            self._problems.add(fault.message, step.position("when"), scope.trail)
            return None, None
        if isinstance(value, str):
            self._problems.add(
                f"`when` gives the text {value!r}, and a condition is wanted",
                step.position("when"), f"compare it: {text} == '…'",
            )
        return (None, caller) if value else (f"`when: {text}` does not hold", None)

    def _call(
        self, full: str, step: Step, scope: Scope, after: tuple[str, ...], here: Inherited,
        when: str | None, depth: int,
    ) -> None:
        playbook = self._runbook.playbooks.get(str(step.playbook))
        if playbook is None or depth >= _DEEPEST:
            self._problems.add(
                f"playbook {step.playbook!r} calls itself, or calls go deeper than {_DEEPEST}"
                if playbook else f"there is no playbook {step.playbook!r}",
                step.position("playbook"), did_you_mean(str(step.playbook), self._runbook.playbooks)
            )
            self.made.groups.step(full)
            return
        for name in _NOT_ON_CALLS:
            if getattr(step, name) != Step.model_fields[name].get_default(
                call_default_factory=True
            ):
                self._problems.add(
                    f"`{name}` does not apply to the call of a playbook", step.position(name),
                    "put it on the steps inside, or pass it as a parameter",
                )
        trail = f"in playbook {playbook.name}, called by {full} ({_where(step)})"
        early, late = bind_parameters(
            full, step, playbook, scope, self._renderer, self._problems
        )
        if when is not None:
            text = "{{ " + when + " }}"
            late[CALLER_WHEN] = {"value": text, "scope": scope.packed(scope.late_names(text))}
        inner = playbook_scope(scope, early, late, prefix=f"{full}/", trail=trail)
        self.made.calls[full] = (playbook, inner)
        self.made.entries[full] = after
        first = len(self.made.units)
        names = [inner.prefix + one.id for one in playbook.steps]
        inside = {f"{inner.prefix}{n}" for one in playbook.steps for n in one.after or ()} | {
            inner.prefix + before.id
            for before, one in zip(playbook.steps, playbook.steps[1:], strict=False)
            if one.after is None
        }
        last = [name for name in names if name not in inside]
        self.made.groups.several(full, last or after)
        self.sequence(playbook.steps, inner, after, here, depth=depth + 1)
        at = self._moment(full, step, "at", scope)
        not_before = self._moment(full, step, "not_before", scope)
        ends = set(self.made.groups.steps(full))
        for index in range(first, len(self.made.units)):
            unit = self.made.units[index]
            starts = unit.after == after
            self.made.units[index] = replace(
                unit,
                at=at if starts and unit.at is None else unit.at,
                not_before=not_before if starts and unit.not_before is None else unit.not_before,
                no_return=unit.no_return or (step.point_of_no_return and unit.id in ends),
            )

    def _text(self, full: str, step: Step, key: str, scope: Scope) -> str | None:
        """A field that has to be known now, rendered to text."""
        value = getattr(step, key)
        if not is_template(value):
            return None if value is None else str(value)
        facts = self._renderer.scan(value, scope, lambda _: step.position(key), owner=full)
        if facts.late:
            self._problems.add(f"`{key}` cannot depend on outputs", step.position(key))
            return None
        made = self._renderer.render(value, scope, lambda _: step.position(key), facts)
        return None if made is None else str(made)

    def _moment(self, full: str, step: Step, key: str, scope: Scope) -> float | None:
        text = self._text(full, step, key, scope)
        if text is None:
            return None
        moved = self._runbook.moved
        try:
            found = parse_moment(
                text, self._runbook.window, moved_by=moved.by if moved is not None else 0.0
            )
        except ValueError as fault:
            self._problems.add(f"`{key}`: {fault}", step.position(key))
            return None
        return found if moved is None or moved.waited_for else None


def _where(step: Step) -> str:
    at = step.position()
    return f"{at.file.name}:{at.line}"
