"""The kind ``files.compare``."""

from __future__ import annotations

import posixpath
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._compare_script import compare, look
from runbook.kinds.files_common import TreesKind, size
from runbook.model.actions import Action, RunCommand
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class FilesCompare(TreesKind):
    """A gate: two trees of files are the same, with every byte read on both sides.

    The keys are those of `files.sync`, and what `preserve` names there is compared here: names,
    contents by checksum, sizes, times, modes, owners, groups, symbolic links, the hard links that
    the source has, ACLs and extended attributes. A single changed byte in a file of the same size
    and time is found. Times of folders do not count: every program that makes a file changes them.

    It works in chunks and is resumed after the last one that was done, so a cut link or a killed
    controller does not begin it anew (`retry:` of the step): a file counts as it was when it was
    read. A difference ends the step at once, whatever `retry:` says. It tells how far it is at
    each percent, keeps within `rate`, and reports how many paths differ and the first 50 with what
    differs. It reads and changes nothing, so there is nothing to undo; its marks are in
    `~/.runbook/files-compare` of the step's host while it is at work.
    """

    name: ClassVar[str] = "files.compare"
    estimate: ClassVar[float] = 60.0
    estimate_undo: ClassVar[float | None] = 0.0
    output_names: ClassVar[dict[str, str]] = {
        "files": "number of files compared",
        "bytes": "their size altogether",
        "differences": "number of paths that differ",
        "seconds": "how long it took, interruptions included",
    }
    example: ClassVar[str] = """\
- id: same
  kind: files.compare
  hosts: west-files
  with:
    from: east-files
    source: /srv/shop/uploads/
    destination: /srv/shop/uploads
    exclude: ["*.tmp"]
  retry: {times: 5, wait: 10s}
"""

    surplus: bool = Field(
        default=False, description="Do not mind what is in the destination alone."
    )
    rate: float = Field(
        default=0.0, ge=0,
        description="Megabytes that each side reads in a second at most; 0: as fast as it can.",
    )
    chunk: int = Field(
        default=1000, ge=1,
        description="Megabytes after which an interrupted comparison can go on.",
    )

    def flags(self) -> list[str]:
        return [*super().flags(), *([] if self.surplus else ["--delete"])]

    def preview(self) -> tuple[str, ...]:
        return tuple(f"every byte: {line} --checksum --dry-run" for line in super().preview())

    def observe(self, reads: Reads) -> Observation:
        evidence = self.ways(reads)
        result = reads.here.query(look(evidence["key"]))
        return Observation(evidence={**evidence, **_found(result.stdout)}, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        seen = before.evidence
        source, target = self.source_end(seen), self.target_end(seen)
        # Names of a list are below what is copied, and that is the folder itself without a slash.
        root = source if source.endswith("/") else source[: -len(posixpath.basename(source))]
        script = compare(
            key=seen["key"],
            listed=self.arguments(
                seen, source, f"/nonexistent/{seen['key']}/", ["-an", *self.excludes()]
            ),
            chunk=self.arguments(
                seen, root or "./", target,
                ["-a", "--ignore-missing-args", *self.options],
            ),
            whole=self.arguments(seen, source, target, self.flags()),
            megabytes=self.chunk, rate=self.rate * 1_000_000,
        )
        return Planned(actions=(RunCommand(host=seen.get("host"), script=script, idempotent=True),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        found = after.evidence
        if "differences" not in found:
            return Verdict(ok=False, seen="the comparison left no result", retry=False)
        count, sample = found["differences"], found["sample"]
        outputs = {key: found[key] for key in self.output_names}
        read = f"{found['files']} files, {size(found['bytes'])}, read in {found['seconds']} s"
        if count == 0 and found["files"] == 0 and not self.empty:
            return Verdict(
                ok=False, retry=False, final=True, outputs=outputs,
                seen="nothing was compared: there is no file on either side (is the file system "
                "mounted? Where it is meant, say `empty: true`)",
            )
        if count == 0:
            return Verdict(ok=True, seen=f"the same: {read}", outputs=outputs)
        more = f" and {count - 5} more" if count > 5 else ""
        return Verdict(
            ok=False, retry=False, final=True, outputs=outputs,
            seen=f"{count} paths differ: {'; '.join(sample[:5])}{more} ({read})",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: it only read."""
        return ()


def _found(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sample: list[str] = []
    for line in text.split("\n"):
        head, _, rest = line.partition(" ")
        if head == "=compared":
            keys = ("files", "bytes", "seconds")
            found |= dict(zip(keys, map(int, rest.split()), strict=True))
        elif head == "=count":
            found |= {"differences": int(rest), "sample": sample}
        elif head == "=differs":
            sample.append(rest)
    return found
