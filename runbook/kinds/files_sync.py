"""The kind ``files.sync``."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.errors import Errored, Refused, RunbookError
from runbook.kinds._files_back import carry, put_back, revert
from runbook.kinds._files_copy import copy, copy_keeping
from runbook.kinds._files_ends import Ends, saved_in
from runbook.kinds._files_look import changed, look
from runbook.kinds._rsync import SPOOL
from runbook.kinds._shared import Duration, Plain, tail
from runbook.kinds.files_common import COMPARE_TIMEOUT, TreesKind, complaint, is_remote, size
from runbook.kinds.needs_common import folder_takes_files, room_for
from runbook.model.actions import Action, RunCommand
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Loss, Observation, Planned, Verdict
from runbook.model.ports import HostReads, Reads


class FilesSync(TreesKind):
    """Bring a tree of files up to date with rsync, and be able to go back exactly.

    It runs on the step's host. With `from:` the source, or with `to:` the destination, is on
    another host of the inventory; the step's host must be able to log in there by itself. An end
    may also be written as rsync does, `user@machine:path`. The destination is always a folder; a
    source that ends in `/` means what is in the folder, without the slash the folder itself.
    Relative paths start at the home folder. Both hosts need rsync 3.1.3 or newer. Where no host
    reaches the other, two steps without `hosts:` relay through the controller's own disk: one
    `from:` the old host, one `to:` the new.

    **Passes.** With `live: true` the source may go on changing: up to `passes` follow one another,
    each moving what changed during the one before, and what is left at the end is told. The final
    pass, under a freeze, is a step without `live`: afterwards a comparison must find no difference.
    Bytes, rate and time left are told at each percent, and how much each pass moved at its end.

    **Cut short.** Files arrive in a folder beside their places and are renamed, so nobody reads
    half a file, and what arrived of one is kept: after a lost link, a killed controller or a
    restarted machine the next try (`retry:` of the step) goes on there. Large files send only what
    differs; `in_place` writes into the old file, for one that does not fit on the disk twice.

    **The way back.** Before anything in the destination is overwritten, retouched or deleted, it is
    kept in `~/.runbook/files` on its host, or below `keep`; the undo puts it back and removes what
    was created: content, mode, owner, times, links and attributes. Replaced and deleted files are
    only moved there, which is free on the same file system, until the undo or until you remove it.
    With `back: restore` a rollback over a destination that others have changed since (the new side
    has taken writes) is refused with the changed paths, and `--accept-loss STEP` gives them up;
    what they wrote is moved to `….given-up` beside what was kept, and not deleted. With
    `back: carry` it is carried to the source, so nothing is lost (only a hard link made meanwhile
    becomes a copy): the source must still be as the last pass found it, or nothing is touched and
    what changed there is shown. Folders named `.runbook` are left out of it all. A source with
    nothing in it is refused where `delete` would empty the destination, as one whose file system is
    not mounted looks like that; `empty: true` says that it is meant.
    """

    name: ClassVar[str] = "files.sync"
    interrupt: ClassVar[bool] = True
    may_lose: ClassVar[bool] = True
    estimate: ClassVar[float] = 60.0
    output_names: ClassVar[dict[str, str]] = {
        "passes": "number of passes, tries that were cut short included",
        "files": "number of files whose content was copied in all of them",
        "bytes": "their size altogether",
        "sent": "bytes of content that went over the wire for them",
        "seconds": "how long all passes took",
        "last_bytes": "size of the files the last pass copied",
        "last_seconds": "how long the last pass took",
        "left": "differences that were left; 0 unless the source is live",
    }
    example: ClassVar[str] = """\
- id: final-sync
  kind: files.sync
  hosts: west-files
  with:
    from: east-files
    source: /srv/shop/uploads/
    destination: /srv/shop/uploads
    delete: true
    exclude: ["*.tmp"]
  retry: {times: 5, wait: 10s}
"""

    delete: bool = Field(
        default=False, description="Remove what is in the destination and not in the source."
    )
    checksum: bool = Field(
        default=False,
        description="Compare whole contents in place of size and time; reads everything.",
    )
    live: bool = Field(
        default=False, description="The source may change meanwhile: differences may be left."
    )
    passes: int = Field(
        default=1, ge=1, le=20,
        description="Passes at most, each for what changed during the one before.",
    )
    in_place: bool = Field(
        default=False, description="Write into existing files; readers may see half of a change."
    )
    stall: Duration = Field(
        default=300.0, description="Give a pass up when nothing has come for so long; 0: never."
    )
    keep: Plain = Field(
        default="",
        description="Absolute folder, best on the destination's file system, for what the undo "
        "needs. Not given: `.runbook/files` in the login's home.",
    )
    back: Literal["restore", "carry"] = Field(
        default="restore",
        description="What the way back does with changes others made in the destination since: "
        "`restore` has them accepted as lost, `carry` brings them to the source first.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.keep and not self.keep.startswith("/"):
            raise ValueError("`keep` is an absolute path")
        if self.passes > 1 and not self.live:
            raise ValueError("more than one pass is for a source that is `live`")
        if self.back == "carry":
            if self.live:
                raise ValueError("`back: carry` is for the final pass, and not for a `live` source")
            if not self.delete:
                raise ValueError("`back: carry` needs `delete: true`: the two sides must be the "
                                 "same for a difference to be a change")
            if is_remote(self.destination) or is_remote(self.source):
                raise ValueError("`back: carry` needs hosts by name, in `from:` and `to:`")
            if not self.source.endswith("/"):
                raise ValueError("`back: carry` needs a source that ends in `/`")
        return self

    def may_choose(self) -> bool:
        return self.live

    def flags(self) -> list[str]:
        more = [*(["--delete"] if self.delete else []), *(["--checksum"] if self.checksum else [])]
        return [*super().flags(), *more]

    def observe(self, reads: Reads) -> Observation:
        evidence = self.ways(reads)
        if self.to is not None:
            # The undo goes there by the controller's own way: let it be open before it is needed.
            reads.on(self.to).query("true")
        script = look(
            self._ends(evidence), carry=self.back == "carry", tree=not is_remote(self.destination),
            top=self.delete,
        )
        result = reads.here.query(script, timeout=COMPARE_TIMEOUT)
        found = _Found(result.stdout)
        if found.total is None:
            raise Errored(f"{self._what()}: {tail(result.stderr) or 'no answer'}")
        count, files, copied, code = found.total
        if code not in {0, 24}:
            raise Errored(
                f"{self._what()} (exit status {code}): {complaint(result.stderr)}",
                hint="nothing was changed; run the same rsync with -n by hand on that host",
            )
        if found.state is None and not is_remote(self.destination):
            raise Errored(f"{self.destination} cannot be read: {complaint(result.stderr)}")
        evidence |= {
            "differences": count, "files": files, "bytes": copied, "sample": found.differs,
            "passes": found.passes, "noted": found.noted, "nothing": found.nothing,
        }
        return Observation(
            state=found.state or {"differences": count}, evidence=evidence, at=reads.now()
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """rsync 3.1.3 or newer on both hosts, and a login from the one to the other; a destination
        that takes files, with room for what comes over."""
        found = super().needs(reads, seen)
        if seen is None or not seen.evidence["differences"] or is_remote(self.destination):
            return found
        try:
            there = reads.on(self.to) if self.to is not None else reads.here
            folder = _above(there, self.destination)
        except RunbookError as fault:
            what = f"{self.destination} takes files"
            return (*found, Need(what=what, ok=None, seen=fault.message))
        return (
            *found, folder_takes_files(there, folder),
            room_for(there, folder, seen.evidence["bytes"], f"what comes to {self.destination}"),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        told = seen.evidence
        return (
            f"{self.destination}: {told['files']} files, {size(told['bytes'])}, would come over; "
            f"{told['differences']} differences", *told["sample"][:3],
        )

    def plan(self, before: Observation) -> Planned:
        seen = before.evidence
        if seen.get("differences") == 0 and (self.back == "restore" or seen.get("noted")):
            return Planned(reason=f"already done: {self.destination} does not differ")
        if self.delete and seen.get("nothing") and not self.empty:
            raise Refused(
                f"there is nothing in {self.source}, and `delete` would empty {self.destination}",
                hint="is its file system mounted? Where it is meant, say `empty: true`",
            )
        if is_remote(self.destination):
            script = copy(self._ends(seen).arguments)
        else:
            script = copy_keeping(
                self._ends(seen), passes=self.passes, in_place=self.in_place,
                more=self._stalled(), note_source=not self.live,
            )
        return Planned(actions=(RunCommand(host=seen.get("host"), script=script, idempotent=True),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        passes = after.evidence.get("passes", [])
        left = after.evidence.get("differences", 0)
        outputs = {
            "passes": len(passes), "left": left,
            **{key: sum(one[key] for one in passes)
               for key in ("files", "bytes", "sent", "seconds")},
            "last_bytes": passes[-1]["bytes"] if passes else 0,
            "last_seconds": passes[-1]["seconds"] if passes else 0,
        }
        seen = f"{self.destination} does not differ"
        if left:
            first = "; ".join(after.evidence.get("sample", [])[:3])
            seen = f"{left} differences are left: {first}"
            if self.live:
                seen = f"{left} differences are left for the next pass, " \
                       f"{size(after.evidence.get('bytes', 0))} in files"
        if passes:
            last = passes[-1]
            seen += (f"; the last of {len(passes)} passes moved {last['files']} files, "
                     f"{size(last['bytes'])}, in {last['seconds']} s")
        return Verdict(ok=left == 0 or self.live, seen=seen, outputs=outputs)

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        if self.back == "carry" or is_remote(self.destination) or self.undo(before) == ():
            return None
        result = reads.here.query(changed(self._ends(before.evidence)), timeout=COMPARE_TIMEOUT)
        if result.exit_code != 0:
            raise Errored(f"{self.destination} cannot be read: {complaint(result.stderr)}")
        found = result.stdout.splitlines()
        if not found:
            return None
        return Loss(what=f"{self.destination} was changed by others since: {'; '.join(found)}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: created files are removed; overwritten, retouched and deleted ones are put
        back. Only a destination written `user@machine:folder` cannot be put back."""
        seen = before.evidence
        if "key" not in seen or (seen["differences"] == 0 and self.back == "restore"):
            return ()
        if is_remote(self.destination):
            return Irreversible(
                why=f"what was in {self.destination} before was not kept: name its machine with "
                "`to:`, as a host of the inventory, and it can be put back"
            )
        host, user = seen.get("host"), None
        if self.to is not None:
            host, user = self.to, seen["remote"]["user"]
        restored = RunCommand(
            host=host, run_as=user, script=put_back(self._ends(seen)), idempotent=True
        )
        if self.back == "restore":
            reverted = RunCommand(
                host=seen.get("host"), script=revert(self._ends(seen)), idempotent=True
            )
            return (restored,) if self.live else (reverted, restored)
        carried = carry(
            self._ends(seen), source=self.source, aside=self._aside(seen),
            remote=(*self.shell(seen), seen["remote"]["login"]) if self.source_host else (),
        )
        return (RunCommand(host=seen.get("host"), script=carried, idempotent=True), restored)

    def _ends(self, evidence: dict[str, Any]) -> Ends:
        key = evidence["key"]
        return Ends(
            arguments=self.arguments(
                evidence, self.source_end(evidence), self.target_end(evidence), self.flags()
            ),
            destination=self.destination, saved=saved_in(self.keep, key), key=key,
            excludes=self.excludes(), preserve=self.kept(), live=self.live,
            remote=self.far(evidence),
        )

    def _aside(self, evidence: dict[str, Any]) -> tuple[str, ...]:
        """What the destination has and the source has not, into a folder in the source."""
        beside = f"{self.source_end(evidence)}{SPOOL}{evidence['key']}.back/"
        return self.arguments(
            evidence, self.target_end(evidence), beside, [*self.flags(), "--compare-dest=../.."]
        )

    def _stalled(self) -> tuple[str, ...]:
        # Nothing is sent while whole contents are read for their checksums.
        far = self.source_host or self.to or is_remote(self.source)
        return (f"--timeout={self.stall:.0f}",) if far and self.stall and not self.checksum else ()

    def _what(self) -> str:
        return f"rsync could not compare {self.source} with {self.destination}"


def _above(there: HostReads, path: str) -> str:
    """The folder that a path will be made in: the last of it that is there. Raises Errored."""
    found = there.query(
        f"d={shlex.quote(path)}\n"
        'until [ -d "$d" ]; do case $d in */?*) d=${d%/*} d=${d:-/} ;; *) d=. ;; esac; done\n'
        'cd -- "$d" && pwd -P'
    ).stdout.strip()
    if not found:
        raise Errored(f"where {path} would be made cannot be seen")
    return found


class _Found:
    """What :func:`look` printed."""

    def __init__(self, text: str) -> None:
        self.total: tuple[int, ...] | None = None
        self.differs: list[str] = []
        self.passes: list[dict[str, int]] = []
        self.noted = False
        self.nothing = False
        self.state: dict[str, Any] | None = None
        unfinished = False
        known: dict[str, Any] = {}
        for line in text.split("\n"):
            head, _, rest = line.partition(" ")
            words = rest.split(" ")
            if head == "=total":
                self.total = tuple(int(word) for word in words)
            elif head == "=differs":
                self.differs.append(rest)
            elif head == "=pass":
                keys = ("files", "bytes", "sent", "seconds", "status")
                self.passes.append(dict(zip(keys, map(int, words), strict=True)))
            elif line == "=source noted":
                self.noted = True
            elif line == "=source empty":
                self.nothing = True
            elif head == "=tree":
                self.state = {"destination": rest}
            elif head == "=size" and words[2] in {"0", "24"}:
                known |= {"entries": int(words[0]), "size": int(words[1])}
            elif head == "=digest":
                known["digest"] = words[0]
            elif head == "=unfinished":
                unfinished = True
        if len(known) == 3:
            self.state = dict(known)
        if self.state and unfinished:
            self.state["unfinished"] = True
