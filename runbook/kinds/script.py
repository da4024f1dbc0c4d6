"""The kind ``script``."""

from __future__ import annotations

import base64
import shlex
from typing import ClassVar

from pydantic import Field

from runbook.kinds._shared import Plain, sha256
from runbook.kinds.needs_common import first_word
from runbook.kinds.shell import CommandKind
from runbook.model.observation import Observation
from runbook.model.ports import Reads

_SHELLS = frozenset({"/bin/sh", "sh"})
_LINE = 76


class Script(CommandKind):
    """Run a script of the runbook's folder on a host, at most once.

    The script is read when the step starts; its digest is part of the plan, so a script that was
    changed after the rehearsal is another plan. A script for `/bin/sh` runs as it is; one for
    another interpreter is put in a private temporary folder first, which is removed afterwards.

    Everything else is as with `shell`: give it `creates` or `done_when`, and an `undo:`.
    """

    name: ClassVar[str] = "script"
    output_names: ClassVar[dict[str, str]] = {
        "probe": "what `probe` printed afterwards, where there is one"
    }
    example: ClassVar[str] = """\
- id: load-schema
  kind: script
  hosts: west and db
  with:
    source: scripts/load-schema.sh
    args: [shop, "42"]
    done_when: test "$(cat /var/lib/shop/schema)" = 42
  undo: rm -f /var/lib/shop/schema
"""

    source: str = Field(
        min_length=1, description="The script: a file, relative to the runbook's folder."
    )
    args: tuple[Plain, ...] = Field(default=(), description="Arguments of the script.")
    interpreter: Plain = Field(
        default="/bin/sh",
        description="What runs it, with options: `/bin/bash -eu`, `/usr/bin/python3`.",
    )

    def local_files(self) -> tuple[str, ...]:
        return (self.source,)

    def observe(self, reads: Reads) -> Observation:
        found = super().observe(reads)
        content = reads.read_local(self.source)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as fault:
            raise ValueError(f"the script {self.source} is not UTF-8 text") from fault
        evidence = {**found.evidence, "script": text, "sha256": sha256(content)}
        return found.model_copy(update={"evidence": evidence})

    def text(self, before: Observation) -> str:
        script = before.evidence.get("script")
        if script is None:
            raise ValueError(f"the script {self.source} has not been read yet")
        args = shlex.join(self.args)
        if self.interpreter in _SHELLS:
            return f"set -- {args}\n{script}" if self.args else str(script)
        return _carried(str(script), f'{self.interpreter} "$RUNBOOK_DIR/script" {args}'.rstrip())

    def program(self) -> str:
        return first_word(self.interpreter)

    def preview(self) -> tuple[str, ...]:
        return (shlex.join([*shlex.split(self.interpreter), self.source, *self.args]),)


def _carried(script: str, command: str) -> str:
    """A sh script that unpacks another one, runs it and removes it, with its exit status."""
    packed = base64.b64encode(script.encode()).decode()
    rows = "\n".join(packed[i : i + _LINE] for i in range(0, len(packed), _LINE))
    return (
        "RUNBOOK_DIR=$(mktemp -d) || exit 73\n"
        "trap 'rm -rf \"$RUNBOOK_DIR\"' EXIT\n"
        "trap 'exit 143' TERM\n"
        f"base64 -d >\"$RUNBOOK_DIR/script\" <<'RUNBOOK_END' || exit 73\n{rows}\nRUNBOOK_END\n"
        f"{command}\n"
    )
