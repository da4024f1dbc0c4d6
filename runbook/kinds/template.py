"""The kind ``template``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from runbook.errors import TemplateFault
from runbook.kinds._files import (
    MODE_HELP,
    Mode,
    digest_of,
    observe_file,
    put,
    put_back,
    unlike,
)
from runbook.kinds._shared import Plain
from runbook.model.actions import Action, FileContent
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.templating import render


class Template(Kind):
    """Write a file made from a Jinja2 template of the runbook's folder.

    The template sees what `vars` gives it and nothing else, plus `host` (`name`, `address`,
    `site`, `roles`, `vars`) on a host. It runs in a sandbox and is strict: an unknown name is an
    error, never an empty text. Its digest is part of the plan.

    Writing and undoing are as with `file`. Secrets may be given in `vars`; such a file is
    written every time.
    """

    name: ClassVar[str] = "template"
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    output_names: ClassVar[dict[str, str]] = {"sha256": "digest of the content afterwards"}
    example: ClassVar[str] = """\
- id: point-app-at-new-database
  kind: template
  hosts: west and app
  with:
    source: templates/app.conf.j2
    path: /etc/shop/app.conf
    vars: {database: db1.west.example, pool: 20}
    mode: "0640"
"""

    source: str = Field(
        min_length=1, description="The template: a file, relative to the runbook's folder."
    )
    path: Plain = Field(
        min_length=1, description="The file on the host; a relative path starts at the home folder."
    )
    vars: dict[str, Any] = Field(
        default_factory=dict, description="Names the template may use, with their values."
    )
    mode: Mode | None = Field(default=None, description=MODE_HELP)
    owner: Plain | None = Field(default=None, description="Name of the owner.")
    group: Plain | None = Field(default=None, description="Name of the group.")

    def local_files(self) -> tuple[str, ...]:
        return (self.source,)

    def observe(self, reads: Reads) -> Observation:
        found = observe_file(reads, self.path)
        scope = dict(self.vars)
        host = reads.here.host
        if host is not None:
            shown = host.model_dump(include={"name", "address", "site", "roles", "vars"})
            scope.setdefault("host", shown)
        try:
            source = reads.read_local(self.source).decode("utf-8")
            content = str(render(source, scope))
        except TemplateFault as fault:
            raise ValueError(f"{self.source}: {fault.message}") from fault
        except UnicodeDecodeError as fault:
            raise ValueError(f"{self.source} is not UTF-8 text") from fault
        return found.model_copy(update={"evidence": {**found.evidence, "content": content}})

    def plan(self, before: Observation) -> Planned:
        content = before.evidence.get("content")
        if content is None:
            raise ValueError(f"the template {self.source} has not been rendered yet")
        digest = digest_of(content)
        if digest is not None and not unlike(before.state, self._wanted(before)):
            return Planned(reason=f"already done: {self.path} is as wanted")
        made = FileContent(text=content, sha256=digest)
        return Planned(
            actions=(
                put(before, self.path, made, mode=self.mode, owner=self.owner, group=self.group),
            )
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        faults = unlike(after.state, self._wanted(after))
        return Verdict(
            ok=not faults, seen=f"{self.path}: {'; '.join(faults) or 'as wanted'}",
            outputs={"sha256": after.state.get("sha256", "")},
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: the prior file, kept on the host, is put back; a new one is removed."""
        return put_back(before, self.path)

    def preview(self) -> tuple[str, ...]:
        return (f"write {self.path} from the template {self.source}",)

    def _wanted(self, observed: Observation) -> dict[str, str | None]:
        content = observed.evidence.get("content")
        return {
            "sha256": digest_of(str(content)) if content is not None else None,
            "mode": self.mode, "owner": self.owner, "group": self.group,
        }
