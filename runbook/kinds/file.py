"""The kind ``file``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.kinds._files import (
    MODE_HELP,
    Mode,
    digest_of,
    observe_file,
    put,
    put_back,
    unlike,
)
from runbook.kinds._shared import Plain, indented, sha256
from runbook.model.actions import Action, FileContent
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class File(Kind):
    """Make a file's content, mode and owner so, or remove it.

    The new content is written beside the old and takes its place by an atomic rename, so a
    reader sees the one or the other. The prior file is kept on the host itself and undo puts it
    back exactly; its content never leaves the host.

    A content with secrets in it is written every time: its digest is not known here, so it
    cannot be compared with what is there.
    """

    name: ClassVar[str] = "file"
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    output_names: ClassVar[dict[str, str]] = {
        "sha256": "digest of the content afterwards; empty where the file was removed"
    }
    example: ClassVar[str] = """\
- id: maintenance-page
  kind: file
  hosts: east and web
  with:
    path: /srv/shop/maintenance.txt
    content: |
      The shop is moving house and is back at two.
    mode: "0644"
"""

    path: Plain = Field(
        min_length=1, description="The file on the host; a relative path starts at the home folder."
    )
    content: str | None = Field(default=None, description="The content, as text.")
    source: str | None = Field(
        default=None, description="The content: a file, relative to the runbook's folder."
    )
    mode: Mode | None = Field(default=None, description=MODE_HELP)
    owner: Plain | None = Field(default=None, description="Name of the owner.")
    group: Plain | None = Field(default=None, description="Name of the group.")
    state: Literal["present", "absent"] = Field(
        default="present", description="`absent`: the file shall not exist."
    )

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [self.content is not None, self.source is not None]
        if self.state == "present" and sum(given) != 1:
            raise ValueError("give either `content` or `source`")
        if self.state == "absent" and (any(given) or self.mode or self.owner or self.group):
            raise ValueError("a file that shall be absent has no content, mode, owner or group")
        return self

    def local_files(self) -> tuple[str, ...]:
        return (self.source,) if self.source is not None else ()

    def observe(self, reads: Reads) -> Observation:
        found = observe_file(reads, self.path)
        if self.source is None:
            return found
        digest = sha256(reads.read_local(self.source))
        return found.model_copy(update={"evidence": {**found.evidence, "source_sha256": digest}})

    def plan(self, before: Observation) -> Planned:
        if self.state == "absent":
            if not before.state.get("exists"):
                return Planned(reason=f"already done: {self.path} does not exist")
            return Planned(actions=(put(before, self.path, None),))
        digest = self._digest(before)
        if digest is not None and not unlike(before.state, self._wanted(before)):
            return Planned(reason=f"already done: {self.path} is as wanted")
        content = FileContent(text=self.content, local=self.source, sha256=digest)
        return Planned(
            actions=(
                put(before, self.path, content, mode=self.mode, owner=self.owner,
                    group=self.group),
            )
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if self.state == "absent":
            gone = not after.state.get("exists")
            return Verdict(
                ok=gone, seen=f"{self.path} {'does not exist' if gone else 'still exists'}",
                outputs={"sha256": ""},
            )
        faults = unlike(after.state, self._wanted(after))
        return Verdict(
            ok=not faults, seen=f"{self.path}: {'; '.join(faults) or 'as wanted'}",
            outputs={"sha256": after.state.get("sha256", "")},
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: the prior file, kept on the host, is put back; a new one is removed."""
        if self.state == "absent" and not before.state.get("exists"):
            return ()
        return put_back(before, self.path)

    def preview(self) -> tuple[str, ...]:
        if self.state == "absent":
            return (f"remove {self.path}",)
        what = f"write {self.path}" + (f" (mode {self.mode})" if self.mode else "")
        if self.source is not None:
            return (f"{what} from {self.source}",)
        return (what, *indented(self.content or ""))

    def _digest(self, before: Observation) -> str | None:
        if self.content is not None:
            return digest_of(self.content)
        found = before.evidence.get("source_sha256")
        return str(found) if found is not None else None

    def _wanted(self, observed: Observation) -> dict[str, Any]:
        return {
            "sha256": self._digest(observed), "mode": self.mode, "owner": self.owner,
            "group": self.group,
        }
