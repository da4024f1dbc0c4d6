"""Playbooks: where they are found, and what is in their files.

``playbook: postgres/freeze`` is ``postgres/freeze.yml`` in the first of these folders that has
it: ``playbooks/`` beside the runbook, every folder in ``$RUNBOOK_PLAYBOOKS``, and the playbooks
that come with the package.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import runbook
from runbook.loading.fields import Context, Fields, check_id
from runbook.loading.names import NameChecker, TemplateNames
from runbook.loading.order import read_steps
from runbook.loading.steps import StepReader
from runbook.loading.yaml import Document, read_document
from runbook.model.kind import Kind
from runbook.model.problems import Problems
from runbook.model.runbook import Parameter, Playbook, ValuePath
from runbook.templating.scope import RESERVED
from runbook.templating.values import did_you_mean

PLAYBOOK_KEYS = ("playbook", "title", "parameters", "steps", "outputs")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*")
_SUFFIXES = (".yml", ".yaml")


def playbook_folders(directory: Path) -> tuple[Path, ...]:
    """Folders to search, in their order; those that do not exist are left out."""
    given = os.environ.get("RUNBOOK_PLAYBOOKS", "").split(os.pathsep)
    package = Path(runbook.__file__).parent
    found = [
        directory / "playbooks",
        *(Path(one) for one in given if one),
        package / "playbooks",
        package.parent / "playbooks",
        Path(sys.prefix) / "share" / "runbook" / "playbooks",
    ]
    return tuple(one for one in dict.fromkeys(found) if one.is_dir())


@dataclass(frozen=True, slots=True)
class _Names:
    """What is the same in every playbook of a runbook."""

    base: TemplateNames
    kinds: Mapping[str, type[Kind]]


class PlaybookLibrary:
    """Reads playbooks once each; ``found`` holds every one that is called."""

    def __init__(
        self, directory: Path, problems: Problems, base: TemplateNames,
        kinds: Mapping[str, type[Kind]],
    ) -> None:
        self._folders = playbook_folders(directory)
        self._problems = problems
        self._shared = _Names(base, kinds)
        self._reading: list[str] = []
        self._known: dict[str, Playbook | None] = {}

    @property
    def found(self) -> dict[str, Playbook]:
        return {name: one for name, one in self._known.items() if one is not None}

    def get(self, name: str, ctx: Context, path: ValuePath) -> Playbook | None:
        """See :class:`runbook.loading.steps.Playbooks`."""
        if name in self._reading:
            way = [*self._reading[self._reading.index(name) :], name]
            ctx.fault(path, "a playbook cannot call itself: " + " → ".join(way))
            return None
        if name not in self._known:
            file = self._locate(name, ctx, path)
            self._reading.append(name)
            self._known[name] = None if file is None else self._read(name, file, ctx, path)
            self._reading.pop()
        elif self._known[name] is None and not self._located(name):
            self._locate(name, ctx, path)
        return self._known[name]

    def _located(self, name: str) -> Path | None:
        if not _NAME.fullmatch(name):
            return None
        places = (f / (name + suffix) for f in self._folders for suffix in _SUFFIXES)
        return next((place for place in places if place.is_file()), None)

    def _locate(self, name: str, ctx: Context, path: ValuePath) -> Path | None:
        found = self._located(name)
        if found is None:
            there = {
                str(one.relative_to(folder).with_suffix(""))
                for folder in self._folders for one in folder.rglob("*.y*ml")
            }
            ctx.fault(
                path, f"there is no playbook `{name}`",
                did_you_mean(name, there)
                or "playbooks are files in playbooks/ beside the runbook",
            )
        return found

    def _read(self, name: str, file: Path, ctx: Context, path: ValuePath) -> Playbook | None:
        document = read_document(file, self._problems, named_at=ctx.at(path))
        if document is None:
            return None
        return _PlaybookReader(document, self._problems, self._shared, self).read(name)


class _PlaybookReader:
    def __init__(
        self, document: Document, problems: Problems, shared: _Names, library: PlaybookLibrary
    ) -> None:
        self._ctx = Context(document, problems)
        self._shared = shared
        self._library = library

    def read(self, name: str) -> Playbook | None:
        ctx = self._ctx
        fields = Fields(ctx, (), ctx.document.value, PLAYBOOK_KEYS, "the playbook")
        if not fields.raw:
            return None
        fields.require("playbook", f"write `playbook: {name}`")
        fields.require("steps")
        written = fields.text("playbook")
        if written is not None and written != name:
            ctx.fault(
                ("playbook",), f"the playbook calls itself `{written}`, and its file `{name}`",
                f"write `playbook: {name}`",
            )
        parameters = self._parameters(fields.mapping("parameters"))
        base = self._shared.base
        names = NameChecker(ctx, replace(
            base, own=frozenset(one.name for one in parameters), group="params",
            tainted=frozenset(),
        ))
        for one in parameters:
            names.tree(one.default, ("parameters", one.name, "default"))
        reader = StepReader(ctx, self._shared.kinds, names, self._library)
        steps = read_steps(ctx, reader, fields.raw["steps"], ("steps",)) \
            if "steps" in fields else ()
        return Playbook(
            name=name, title=fields.raw_text("title") or "", parameters=parameters, steps=steps,
            outputs=self._outputs(fields, names), source=ctx.document.source,
        )

    def _parameters(self, raw: dict[str, Any]) -> tuple[Parameter, ...]:
        found = []
        ctx = self._ctx
        for name, value in raw.items():
            path: ValuePath = ("parameters", name)
            if name in RESERVED or not (name.isascii() and name.isidentifier()):
                ctx.fault_at_key(
                    path, f"`{name}` cannot be the name of a parameter",
                    "it means something else in templates" if name in RESERVED
                    else "letters, digits and `_` only, and no digit at the start",
                )
                continue
            fields = Fields(
                ctx, path, value or {}, ("default", "required", "help"), f"parameter `{name}`"
            )
            has_default = "default" in fields.raw
            required = fields.flag("required", not has_default)
            if required and has_default:
                ctx.fault_at_key(
                    (*path, "default"), f"parameter `{name}` is required and has a default",
                    "leave out one of the two",
                )
            found.append(
                Parameter(
                    name=name, required=required, default=fields.raw.get("default"),
                    help=fields.text("help") or "",
                )
            )
        return tuple(found)

    def _outputs(self, fields: Fields, names: NameChecker) -> dict[str, str]:
        found = {}
        for name, value in fields.mapping("outputs").items():
            path = ("outputs", name)
            if not isinstance(value, str):
                fields.ctx.fault(
                    path, f"output `{name}` wants a template",
                    'like "{{ outputs.dump.rows }}"',
                )
                continue
            if not (name.isascii() and name.isidentifier()):
                check_id(fields.ctx, path, "the name of an output", name)
            names.tree(value, path)
            found[name] = value
        return found
