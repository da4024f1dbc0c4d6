"""A runbook file → :class:`~runbook.model.runbook.Runbook`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from runbook.errors import Refused
from runbook.loading.budgets import read_budgets
from runbook.loading.databases import read_databases
from runbook.loading.fields import Context, Fields, check_id
from runbook.loading.header import read_policy, read_secrets, read_zones
from runbook.loading.inventory import read_inventory_file, read_own
from runbook.loading.names import NameChecker, TemplateNames, host_names
from runbook.loading.order import read_steps
from runbook.loading.playbooks import PlaybookLibrary
from runbook.loading.staging import (
    as_staging,
    check_names,
    inverted_databases,
    inverted_inventory,
    read_staging,
)
from runbook.loading.steps import StepReader
from runbook.loading.times import read_window
from runbook.loading.variables import Variables
from runbook.loading.yaml import Document, read_document
from runbook.model.database import Database
from runbook.model.inventory import Inventory
from runbook.model.kind import Kind
from runbook.model.problems import Problems
from runbook.model.runbook import Invert, Moved, Playbook, Runbook, Staging, Step, Window
from runbook.model.selector import Hosts
from runbook.templating.scope import base_scope
from runbook.templating.values import did_you_mean

TOP_KEYS: dict[str, str] = {
    "runbook": "The runbook's id: small letters, digits and `-`.",
    "title": "One line for people.",
    "owner": "Who answers for it.",
    "window": "The announced maintenance window.",
    "policy": "What failures, breaches and missing rehearsals lead to.",
    "budgets": "What is measured with a limit, by name: an interval, or an outage by a probe.",
    "inventory": "The hosts: a file name, or the inventory itself.",
    "vars": "Variables, rendered in their order.",
    "secrets": "Where secrets come from, by name; never their values.",
    "zones": "The DNS zones: who serves them and how they are changed.",
    "databases": "The database servers: engine, host, and how they are reached.",
    "staging": "What is different where the move is rehearsed in staging.",
    "steps": "The steps, in their order.",
}
"""Every key of a runbook with its description."""

_DEEPEST = 20
"""Levels of playbook calls; planning refuses more."""


@dataclasses.dataclass(frozen=True, slots=True)
class ForStaging:
    """A runbook is to be read as it is rehearsed in staging. ``invert``: its direction inverted;
    ``moved``: its dates taken otherwise."""

    invert: bool = False
    moved: Moved | None = None


def load_runbook(
    path: Path, *, kinds: Mapping[str, type[Kind]], overrides: Mapping[str, str] | None = None,
    staging: ForStaging | None = None,
) -> Runbook:
    """Read a runbook and everything it names: its inventory and its playbooks.

    ``overrides`` are values of variables, as ``--var`` gives them. Raises InvalidInput with every
    diagnostic of every file together; and with ``staging`` Refused where the runbook says nothing
    of that.
    """
    problems = Problems()
    document = read_document(path, problems)
    made = None
    if document is not None:
        made = _Loader(document, path.parent, problems, kinds, staging).load(overrides or {})
    problems.raise_if_any()
    if made is None:
        raise AssertionError("a document without faults gives a runbook")
    return made


class _Loader:
    def __init__(
        self, document: Document, directory: Path, problems: Problems,
        kinds: Mapping[str, type[Kind]], staging: ForStaging | None,
    ) -> None:
        self._plain = Context(document, problems)
        self._directory = directory
        self._problems = problems
        self._kinds = kinds
        self._staging = staging
        self._invert: Invert | None = None

    def load(self, overrides: Mapping[str, str]) -> Runbook | None:
        """None where the document is no mapping with keys; then there are diagnostics."""
        staging = None
        if isinstance(self._plain.document.value, dict):
            staging = read_staging(self._plain, self._plain.document.value)
            self._read_for_staging(staging)
        raw = self._plain.document.value
        fields = Fields(self._plain, (), raw, TOP_KEYS, "the runbook")
        if not fields.raw:
            if raw == {}:
                self._plain.fault((), "the runbook is empty", "`runbook init` writes a starter")
            return None
        fields.require("runbook", "its id, like `runbook: shop-2009`")
        fields.require("steps", "what is to be done, as a list")
        id_ = fields.raw_text("runbook") or ""
        if id_:
            check_id(self._plain, ("runbook",), "the id of a runbook", id_)
        secrets = read_secrets(self._plain, fields.mapping("secrets"))
        secret_names = frozenset(fields.mapping("secrets"))
        variables = self._variables(fields, id_, secret_names, overrides)
        variables.render_early()
        ctx = dataclasses.replace(self._plain, render=variables.render)
        fields = Fields(ctx, (), raw, TOP_KEYS, "the runbook")
        inventory = self._turned(self._inventory(fields, secret_names))
        variables.render_rest(Hosts(inventory))
        names = TemplateNames(
            own=variables.declared, group="vars", secrets=secret_names,
            window="window" in fields, host_names=host_names(inventory),
            tainted=variables.tainted(),
        )
        library = PlaybookLibrary(self._directory, self._problems, names, self._kinds)
        steps = self._steps(fields, names, library)
        ids = _Ids(steps, library.found)
        return Runbook(
            id=id_,
            title=fields.text("title") or "",
            owner=fields.text("owner") or "",
            window=self._window(ctx, fields),
            policy=read_policy(ctx, raw.get("policy")),
            budgets=read_budgets(
                ctx, fields.mapping("budgets"), ids.single, ids.several, inventory
            ),
            inventory=inventory,
            vars=variables.values,
            secrets=secrets,
            zones=read_zones(ctx, fields.mapping("zones"), secret_names),
            databases=self._databases(ctx, fields, inventory, secret_names),
            steps=steps,
            playbooks=library.found,
            staging=staging,
            staged=self._staging is not None,
            moved=self._staging.moved if self._staging is not None else None,
            directory=self._directory.absolute(),
            source=ctx.document.source,
        )

    def _read_for_staging(self, staging: Staging | None) -> None:
        """From here on the sections of ``staging:`` stand in the place of production's. Raises
        Refused where there are none."""
        if self._staging is None:
            return
        document = self._plain.document
        name = document.source.file.name
        if staging is None:
            raise Refused(
                f"{name} has no `staging:`, so there is nowhere to rehearse it",
                hint="it names the hosts, zones and databases of staging; nothing was touched",
            )
        if self._staging.invert:
            self._invert = staging.invert
            if self._invert is None:
                raise Refused(
                    f"`staging:` of {name} does not say what to invert",
                    hint="name what changes places: invert: {vars: [[old, new]], sites: "
                    "[[east, west]]}; nothing was touched",
                )
        staged = as_staging(document, self._invert)
        self._plain = dataclasses.replace(self._plain, document=staged)

    def _turned(self, inventory: Inventory) -> Inventory:
        if self._invert is None:
            return inventory
        if not check_names(self._plain, self._invert, inventory):
            self._invert = None  # What would be wrong because of that is not worth telling.
            return inventory
        return inverted_inventory(inventory, self._invert)

    def _window(self, ctx: Context, fields: Fields) -> Window | None:
        if "window" not in fields:
            return None
        found = read_window(ctx, ("window",), fields.raw["window"])
        moved = self._staging.moved if self._staging is not None else None
        if found is None or moved is None:
            return found
        return found.model_copy(update={"start": found.start + moved.by})

    def _databases(
        self, ctx: Context, fields: Fields, inventory: Inventory, secrets: Collection[str]
    ) -> tuple[Database, ...]:
        found = read_databases(ctx, fields.mapping("databases"), inventory, secrets)
        return found if self._invert is None else inverted_databases(found, self._invert)

    def _variables(
        self, fields: Fields, id_: str, secrets: Iterable[str], overrides: Mapping[str, str]
    ) -> Variables:
        base = base_scope(
            runbook=id_, title="", owner="", window=None, inventory=Inventory(), secrets=secrets
        )
        del base["hosts"]  # until the inventory is read
        return Variables(self._plain, fields.mapping("vars"), overrides, base)

    def _inventory(self, fields: Fields, secrets: Collection[str]) -> Inventory:
        value = fields.raw.get("inventory")
        if value is None:
            return Inventory()
        if isinstance(value, dict):
            found = read_own(self._plain, ("inventory",), value)
        else:
            name = fields.text("inventory")
            if name is None:
                return Inventory()
            found = read_inventory_file(
                self._directory / name, self._problems,
                named_at=fields.ctx.at(("inventory",)),
            )
        for host in found.hosts:
            if host.become is not None and host.become not in secrets:
                place = ("inventory", "hosts", host.name, "become")
                fields.ctx.fault(
                    place if isinstance(value, dict) else ("inventory",),
                    f"host `{host.name}` names the secret `{host.become}` as `become`, which is "
                    "not declared",
                    did_you_mean(host.become, secrets) or "declare it under `secrets:`",
                )
        return found

    def _steps(
        self, fields: Fields, names: TemplateNames, library: PlaybookLibrary
    ) -> tuple[Step, ...]:
        if "steps" not in fields:
            return ()
        if fields.raw["steps"] == []:
            fields.ctx.fault(("steps",), "there are no steps")
        reader = StepReader(fields.ctx, self._kinds, NameChecker(fields.ctx, names), library)
        return read_steps(fields.ctx, reader, fields.raw["steps"], ("steps",))


class _Ids:
    """Every id that a budget can name; those of a playbook's steps as ``call/step``."""

    def __init__(self, steps: tuple[Step, ...], playbooks: Mapping[str, Playbook]) -> None:
        self.single: set[str] = set()
        self.several: set[str] = set()
        """Steps with ``foreach``: planning makes ``id-ITEM`` of them."""
        self._playbooks = playbooks
        self._add(steps, "")

    def _add(self, steps: tuple[Step, ...], prefix: str) -> None:
        for step in steps:
            name = prefix + step.id
            (self.single if step.foreach is None else self.several).add(name)
            called = self._playbooks.get(step.playbook or "")
            if called is not None and prefix.count("/") < _DEEPEST:
                self._add(called.steps, f"{name}/")
