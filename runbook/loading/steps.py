"""One step as written → :class:`~runbook.model.runbook.Step`, everything wrong told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from runbook.errors import RunbookError
from runbook.loading.arguments import check_arguments, is_in_sight, keys_of
from runbook.loading.fields import Context, Fields, check_id
from runbook.loading.header import ON_FAILURE
from runbook.loading.names import NameChecker
from runbook.loading.policies import (
    read_batch,
    read_checks,
    read_hosts,
    read_max_failures,
    read_outputs,
    read_poll,
    read_retry,
    read_undo,
    read_when,
)
from runbook.model.kind import Kind
from runbook.model.runbook import Playbook, Step, ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

SEVERITIES = ("info", "warning", "critical")

STEP_KEYS: dict[str, str] = {
    "id": "The step's name: small letters, digits and `-`.",
    "title": "One line for people.",
    "kind": "What the step does; `runbook kinds` lists all.",
    "playbook": "A playbook to call in place of a kind, like `postgres/freeze`.",
    "with": "The keys of the kind, or the parameters of the playbook.",
    "hosts": "Hosts the step is done on, one node each: `east and db`, a name, a list.",
    "expect_hosts": "How many hosts `hosts` has to select.",
    "after": "Ids of the steps this one comes after; else it comes after the one above.",
    "foreach": "A list (or mapping); the step is done for each `item`.",
    "when": "A condition; the step is skipped where it does not hold.",
    "at": "When to start: `window.start - 48h`, or a date and time. It is waited for.",
    "not_before": "Not to start before this moment.",
    "retry": "How many more attempts a failure is worth, or {times, wait, backoff}.",
    "timeout": "How long one attempt may take, like 5m.",
    "poll": "How the postcondition is asked again: {every, timeout, stable}.",
    "batch": "Nodes at a time: a number, a percentage, or a ramp like [1, 10%, 50%].",
    "soak": "How long to wait between two batches.",
    "max_failures": "Nodes that may fail before the step has failed: a number, a percentage.",
    "run_as": "The user to do it as (sudo).",
    "requires": "Checks that have to hold before the step starts.",
    "verify": "Further checks that have to hold after it.",
    "undo": "A command that takes it back, {irreversible: why}, or false: no way back.",
    "on_failure": "What a failure leads to: rollback, hold, ask or continue.",
    "severity": "How bad a failure is: info, warning or critical.",
    "outputs": "Named values taken from the command's output, each of 1 MiB at the most.",
    "tags": "Words to find it by.",
    "owner": "Who answers for it.",
    "estimate": "How long it is thought to take.",
    "estimate_undo": "How long taking it back is thought to take; else as the kind says.",
    "interrupt": "Whether a decision to go back ends its running command at once.",
    "point_of_no_return": "True: after it a rollback is refused unless the loss is accepted.",
    "rehearse": "Outputs to pretend where a rehearsal does not really do it.",
}
"""Every key of a step with its description."""


class Playbooks(Protocol):
    """Finds playbooks by name."""

    def get(self, name: str, ctx: Context, path: ValuePath) -> Playbook | None:
        """None, with a diagnostic at ``path``, when there is no such playbook, or it is being
        read already (it calls itself)."""


class StepReader:
    """Reads the steps of one document."""

    def __init__(
        self, ctx: Context, kinds: Mapping[str, type[Kind]], names: NameChecker,
        playbooks: Playbooks,
    ) -> None:
        self._ctx = ctx
        self._kinds = kinds
        self._names = names
        self._playbooks = playbooks

    def read(self, raw: Any, path: ValuePath) -> Step | None:
        """``after`` is left None; see :mod:`runbook.loading.order`. None: it has no usable id."""
        ctx = self._ctx
        named = raw.get("id") if isinstance(raw, dict) else None
        fields = Fields(
            ctx, path, self._without_strays(raw, path), STEP_KEYS,
            f"step `{named}`" if isinstance(named, str) else "a step",
        )
        if not fields.usable:
            return None
        fields.require("id", "every step has a name of its own, like `id: lower-ttl`")
        id_ = fields.raw_text("id")
        ok = id_ is not None and check_id(ctx, fields.where("id"), "an id", id_)
        kind = self._kind(fields)
        playbook = self._playbook(fields)
        args = fields.mapping("with")
        written = fields.raw.get("with")
        if kind is not None and (written is None or isinstance(written, dict)):
            check_arguments(ctx, path, fields.where("with"), kind, args)
        if playbook is not None:
            self._check_parameters(fields, playbook, args)
        if kind is not None and fields.raw_text("playbook") is None:
            self._check_scope(fields, kind)
        made = self._step(fields, id_ if ok and id_ else "", args)
        self._check_templates(fields, made)
        return made if ok else None

    def _without_strays(self, raw: Any, path: ValuePath) -> Any:
        """The step without keys that belong under ``with:``, which get a better hint here."""
        if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
            return raw
        strays = [key for key in raw if key not in STEP_KEYS]
        kind = self._find(raw["kind"]) if strays else None
        known = keys_of(kind) if kind else {}
        moved = [key for key in strays if key in known]
        for key in moved:
            self._ctx.fault_at_key(
                (*path, key), f"`{key}` is a key of the kind {raw['kind']}, not of a step",
                f"put it under `with:`: with: {{{key}: …}}",
            )
        return {key: value for key, value in raw.items() if key not in moved}

    def _step(self, fields: Fields, id_: str, args: dict[str, Any]) -> Step:
        estimate = fields.duration("estimate")
        return Step(
            id=id_,
            kind=fields.raw_text("kind"),
            playbook=fields.raw_text("playbook"),
            title=fields.raw_text("title") or "",
            args=args,
            hosts=read_hosts(fields),
            foreach=self._foreach(fields),
            when=read_when(fields),
            at=fields.raw_text("at"),
            not_before=fields.raw_text("not_before"),
            retry=read_retry(fields),
            timeout=fields.duration("timeout"),
            poll=read_poll(fields),
            batch=read_batch(fields),
            soak=fields.duration("soak") or 0.0,
            max_failures=read_max_failures(fields),
            run_as=fields.raw_text("run_as"),
            requires=read_checks(fields, "requires"),
            verify=read_checks(fields, "verify"),
            undo=cast(Any, read_undo(fields)),
            on_failure=cast(Any, fields.choice("on_failure", ON_FAILURE)),
            severity=cast(Any, fields.choice("severity", SEVERITIES) or "critical"),
            outputs=read_outputs(fields),
            tags=fields.texts("tags"),
            owner=fields.text("owner") or "",
            estimate=estimate,
            estimate_undo=fields.duration("estimate_undo"),
            interrupt=fields.flag("interrupt", True) if "interrupt" in fields else None,
            point_of_no_return=fields.flag("point_of_no_return", False),
            rehearse=fields.mapping("rehearse"),
            expect_hosts=fields.whole("expect_hosts", None),
            source=self._ctx.document.source,
            path=fields.path,
        )

    def _find(self, name: str) -> type[Kind] | None:
        return self._kinds.get(name)

    def _kind(self, fields: Fields) -> type[Kind] | None:
        name, playbook = fields.raw_text("kind"), "playbook" in fields
        if name is not None and playbook:
            fields.ctx.fault_at_key(
                fields.where("playbook"), "a step has a `kind` or a `playbook`, not both",
                "make two steps of it",
            )
            return None
        if name is None:
            if not playbook and "kind" not in fields:
                fields.ctx.problems.add(
                    f"{fields.what} has neither `kind` nor `playbook`",
                    fields.ctx.at(fields.path), "`runbook kinds` lists the kinds of step",
                )
            return None
        try:
            found = self._find(name)
        except RunbookError as fault:  # a foreign package that cannot be loaded
            fields.ctx.fault(fields.where("kind"), fault.message, fault.hint)
            return None
        if found is None:
            fields.ctx.fault(
                fields.where("kind"), f"there is no kind `{name}`",
                did_you_mean(name, self._kinds),
            )
        return found

    def _playbook(self, fields: Fields) -> Playbook | None:
        name = fields.raw_text("playbook")
        if name is None or "kind" in fields:
            return None
        return self._playbooks.get(name, fields.ctx, fields.where("playbook"))

    def _check_parameters(
        self, fields: Fields, playbook: Playbook, args: dict[str, Any]
    ) -> None:
        known = {parameter.name for parameter in playbook.parameters}
        for key in args:
            if key not in known:
                fields.ctx.fault_at_key(
                    (*fields.where("with"), key),
                    f"playbook {playbook.name} has no parameter `{key}`",
                    did_you_mean(key, known) or "it takes no parameters",
                )
        for parameter in playbook.parameters:
            if parameter.required and parameter.name not in args:
                at = fields.where("with" if "with" in fields else "playbook")
                fields.ctx.problems.add(
                    f"playbook {playbook.name} needs the parameter `{parameter.name}`",
                    fields.ctx.key_at(at), parameter.help,
                )

    def _check_scope(self, fields: Fields, kind: type[Kind]) -> None:
        if kind.scope == "host" and "hosts" not in fields:
            fields.ctx.fault(
                fields.where("kind"), f"{kind.name} works on hosts, and `hosts` is missing",
                "like hosts: east and web",
            )
        elif "expect_hosts" in fields and "hosts" not in fields:
            fields.ctx.fault_at_key(
                fields.where("expect_hosts"),
                "`expect_hosts` counts what `hosts` selects, and `hosts` is missing: the step "
                "would act on the controller", "add `hosts`, or leave it out",
            )
        if kind.scope == "controller" and "hosts" in fields:
            fields.ctx.fault_at_key(
                fields.where("hosts"),
                f"{kind.name} works from the controller and takes no `hosts`", "leave it out",
            )

    def _foreach(self, fields: Fields) -> Any:
        value = fields.raw.get("foreach")
        if value is None or isinstance(value, list | dict) or is_template(value):
            return value
        fields.wrong("foreach", "a list", value)
        return None

    def _check_templates(self, fields: Fields, step: Step) -> None:
        check, where = self._names.tree, fields.where
        host, item = step.hosts is not None, step.foreach is not None
        for key, value in step.args.items():
            check(value, (*where("with"), key), host=host, item=item,
                  secrets=step.kind is None or not is_in_sight(step.kind, key))
        check(step.undo, where("undo"), host=host, item=item, secrets=False)
        for key, checks in (("requires", step.requires), ("verify", step.verify)):
            for index, one in enumerate(checks):
                for name, value in one.items():
                    check(value, (*where(key), index, name), host=host, item=item,
                          secrets=not is_in_sight(None, name))
        for key in ("title", "hosts", "at", "not_before", "run_as", "rehearse"):
            check(getattr(step, key), where(key), item=item)
        check(step.foreach, where("foreach"))
        if isinstance(step.when, str):
            text = step.when if is_template(step.when) else "{{ " + step.when + " }}"
            self._names.text(text, where("when"), item=item)

