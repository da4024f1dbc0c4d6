"""The kind ``rsync``."""

from __future__ import annotations

import re
import shlex
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.errors import Errored, NotFound
from runbook.kinds._rsync_scripts import compare, copy, copy_keeping, put_back
from runbook.kinds._shared import Names, Plain, sha256, tail, whose
from runbook.model.actions import Action, RunCommand
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads

_DRY_RUN_TIMEOUT = 3600.0
_PRESERVING = re.compile(
    r"-[HAXUNS]+|--(hard-links|acls|xattrs|atimes|crtimes|numeric-ids|fake-super|sparse)"
)
_OWN = re.compile(
    r"--(dry-run|out-format|itemize-changes|files-from|from0|backup|rsh|relative).*"
    r"|-[a-zA-Z]*[nibeR].*"
)
_REMOTE = re.compile(r"[^/]+:|rsync://")


class Rsync(Kind):
    """Bring a folder up to date with rsync, and be able to go back exactly.

    It runs on the step's host. With `from:` the source, or with `to:` the destination, is on
    another host of the inventory; the step's host must be able to log in there by itself. An end
    may also be written as rsync does, `user@machine:path`. The destination is always a folder; a
    source that ends in `/` means what is in the folder, without the slash the folder itself.
    Relative paths start at the home folder.

    It always copies as `-a` does. What differs is found by a dry run: no difference, nothing is
    done; afterwards a second dry run must find none. Run it early to move the bulk, and again
    inside the window for the rest. Files that change meanwhile are differences: stop the writers
    first, or let the early run be `on_failure: continue`.

    Before the destination is touched, everything in it that will be overwritten, retouched or
    deleted is copied to `~/.runbook/rsync` on the destination's host. It takes that much space
    there, until the undo or until you remove it. Folders named `.runbook` are left out of it all.
    """

    name: ClassVar[str] = "rsync"
    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 60.0
    output_names: ClassVar[dict[str, str]] = {
        "files": "number of files whose content was copied",
        "bytes": "their size altogether",
    }
    example: ClassVar[str] = """\
- id: final-sync
  kind: rsync
  hosts: west-files
  with:
    from: east-files
    source: /srv/shop/uploads/
    destination: /srv/shop/uploads
    delete: true
    exclude: ["*.tmp"]
"""

    source: Plain = Field(min_length=1, description="Path, or `user@machine:path`.")
    destination: Plain = Field(min_length=1, description="Folder, or `user@machine:folder`.")
    source_host: str | None = Field(
        default=None, alias="from", description="Host of the inventory that has the source."
    )
    to: str | None = Field(
        default=None, description="Host of the inventory that gets the destination."
    )
    delete: bool = Field(
        default=False, description="Remove what is in the destination and not in the source."
    )
    checksum: bool = Field(
        default=False,
        description="Compare whole contents in place of size and time; reads everything.",
    )
    exclude: Names = Field(default=(), description="Patterns to leave out.")
    rsh: Plain = Field(
        default="ssh -o BatchMode=yes", description="The remote shell, where one end is remote."
    )
    options: Names = Field(
        default=(), description="Further options of rsync, like `-H`, `-A`, `-X`, `--bwlimit=5m`."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ends = (("source", self.source, self.source_host), ("destination", self.destination,
                                                           self.to))
        for key, path, host in ends:
            if host is not None and _remote(path):
                raise ValueError(f"`{key}` is a plain path where its host is named")
            if path.startswith("~"):
                raise ValueError(f"`~` is not known in `{key}`: relative paths start at home")
        if all(host is not None or _remote(path) for _, path, host in ends):
            raise ValueError("source and destination cannot both be remote: run it on one of them")
        for option in self.options:
            if not option.startswith("-") or _OWN.fullmatch(option):
                raise ValueError(f"the option {option!r} cannot be given here")
        return self

    def observe(self, reads: Reads) -> Observation:
        evidence = {**whose(reads), "saved": _folder(reads.key)}
        other = self.source_host or self.to
        if other is not None:
            evidence["remote"] = _login(reads.on(other).host, other)
        found = Observation(evidence=evidence)
        result = reads.here.query(compare(self._arguments(found)), timeout=_DRY_RUN_TIMEOUT)
        *lines, last = result.stdout.splitlines() or [""]
        words = last.split()
        if len(words) != 5 or words[0] != "=total":
            raise Errored(f"{self._what()}: {tail(result.stderr) or last or 'no answer'}")
        count, files, size, code = (int(word) for word in words[1:])
        if code not in {0, 24}:
            raise Errored(
                f"{self._what()} (exit status {code}): {_complaint(result.stderr)}",
                hint="nothing was changed; run the same rsync with -n by hand on that host",
            )
        state: dict[str, Any] = {
            "differences": count, "files": files, "bytes": size, "sample": lines
        }
        return Observation(state=state, evidence=evidence, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        if before.state.get("differences") == 0:
            return Planned(reason=f"already done: {self.destination} does not differ")
        if _remote(self.destination):
            script = copy(self._arguments(before))
        else:
            script = copy_keeping(
                self._arguments(before), destination=self.destination,
                saved=before.evidence["saved"], preserve=self._preserve(),
                remote=[*self._shell(before), before.evidence["remote"]["login"]]
                if self.to else (),
            )
        host = before.evidence.get("host")
        return Planned(actions=(RunCommand(host=host, script=script, idempotent=True),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        outputs = {key: before.state.get(key, 0) for key in ("files", "bytes")}
        count = after.state.get("differences")
        if count == 0:
            return Verdict(ok=True, seen=f"{self.destination} does not differ", outputs=outputs)
        first = "; ".join(after.state.get("sample", [])[:3])
        return Verdict(ok=False, seen=f"{count} differences are left: {first}", outputs=outputs)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: created files are removed; overwritten, retouched and deleted ones are put
        back. Only a destination written `user@machine:folder` cannot be put back."""
        if before.state.get("differences") == 0:
            return ()
        if _remote(self.destination):
            return Irreversible(
                why=f"what was in {self.destination} before was not kept: name its machine with "
                "`to:`, as a host of the inventory, and it can be put back"
            )
        script = put_back(
            destination=self.destination, saved=before.evidence["saved"],
            preserve=self._preserve(),
        )
        if self.to is None:
            host, user = before.evidence.get("host"), None
        else:
            host, user = self.to, before.evidence["remote"]["user"]
        return (RunCommand(host=host, run_as=user, script=script, idempotent=True),)

    def preview(self) -> tuple[str, ...]:
        source = f"{self.source_host}:{self.source}" if self.source_host else self.source
        target = f"{self.to}:{self.destination}" if self.to else self.destination
        return (shlex.join(["rsync", *self._flags(), source, target]),)

    def _flags(self) -> list[str]:
        flags = ["-a", *self.options]
        if self.delete:
            flags.append("--delete")
        if self.checksum:
            flags.append("--checksum")
        # Spools of runs, and what undo needs, live in such folders: --delete must not reach them.
        return flags + [f"--exclude={pattern}" for pattern in (".runbook/", *self.exclude)]

    def _arguments(self, observed: Observation) -> list[str]:
        source, target = self.source, self.destination.rstrip("/") + "/"
        remote = observed.evidence.get("remote")
        if remote is not None:
            source = _on(remote, source) if self.source_host else source
            target = _on(remote, target) if self.to else target
        flags = self._flags()
        if any(_remote(end) and "::" not in end for end in (source, target)):
            flags += ["-e", shlex.join(self._shell(observed))]
        return [*flags, "--", source, target]

    def _shell(self, observed: Observation) -> list[str]:
        port = (observed.evidence.get("remote") or {}).get("port")
        return shlex.split(self.rsh) + (["-p", str(port)] if port is not None else [])

    def _preserve(self) -> list[str]:
        return [option for option in self.options if _PRESERVING.fullmatch(option)]

    def _what(self) -> str:
        return f"rsync could not compare {self.source} with {self.destination}"


def _login(host: Host | None, name: str) -> dict[str, Any]:
    if host is None:
        raise NotFound(f"there is no host {name!r} in the inventory")
    login = f"{host.user}@{host.address}" if host.user else host.address
    return {"login": login, "user": host.user, "port": host.port}


def _on(remote: dict[str, Any], path: str) -> str:
    """A path on another machine as rsync wants it, an IPv6 address in brackets."""
    user, at, address = remote["login"].rpartition("@")
    return f"{user}{at}[{address}]:{path}" if ":" in address else f"{remote['login']}:{path}"


def _remote(end: str) -> bool:
    """As rsync decides it: a colon before the first slash."""
    return _REMOTE.match(end) is not None


def _folder(key: str) -> str:
    """A folder name for the identity of a node: readable, and never two nodes the same."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip(".-")[:80]
    return f"{readable}-{sha256(key.encode())[:12]}"


def _complaint(stderr: str) -> str:
    """The first complaint of rsync; its last line only repeats the exit status."""
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "no message")
