"""What ``files.sync`` and ``files.compare`` have in common: two trees, and the way between them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.errors import NotFound, RunbookError
from runbook.kinds._rsync import SPOOL
from runbook.kinds._shared import Names, Plain, sha256, tail, whose
from runbook.kinds.needs_common import Seen, need, place, version_meets
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Observation
from runbook.model.ports import Reads

COMPARE_TIMEOUT = 6 * 3600.0
"""Seconds after which looking at two trees is given up."""

RSYNC = ">=3.1.3"

# Else a file that changed twice within a second, and has the same size, passes for the same.
_EXACT_TIME = "--modify-window=-1"

_REMOTE = re.compile(r"[^/]+:|rsync://")
_PRESERVED = {
    "hard_links": "-H", "acls": "-A", "xattrs": "-X", "sparse": "-S", "numeric_ids":
    "--numeric-ids", "access_times": "-U",
}
_OWN = re.compile(
    r"--(dry-run|out-format|itemize-changes|files-from|from0|backup|rsh|relative|partial|temp-dir"
    r"|inplace|append|delay-updates|link-dest|copy-dest|compare-dest|info|log-file|remove-source"
    r"|delete|checksum|timeout|progress|stats).*"
    r"|-[a-zA-Z]*[nibeRPT].*"
)

# Choose what counts: with such an option two different trees pass for the same.
_CHOOSES = re.compile(
    r"--(update|existing|ignore-existing|ignore-non-existing|size-only|max-size|min-size|filter"
    r"|include|exclude|cvs-exclude|prune-empty-dirs|dirs|list-only|max-delete"
    r"|no-(recursive|r|archive|a|dirs|d))\b.*"
    r"|-[a-zA-Z]*[ufFCmd].*"
)

Preserved = Literal["hard_links", "acls", "xattrs", "sparse", "numeric_ids", "access_times"]


class TreesKind(Kind):
    """Base of the kinds that are about a source and a destination."""

    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    idempotent: ClassVar[bool] = True

    source: Plain = Field(min_length=1, description="Path, or `user@machine:path`.")
    destination: Plain = Field(min_length=1, description="Folder, or `user@machine:folder`.")
    source_host: str | None = Field(
        default=None, alias="from", description="Host of the inventory that has the source."
    )
    to: str | None = Field(
        default=None, description="Host of the inventory that has the destination."
    )
    exclude: Names = Field(default=(), description="Patterns to leave out, as rsync knows them.")
    preserve: tuple[Preserved, ...] = Field(
        default=("hard_links", "acls", "xattrs", "sparse"),
        description="What counts beside content, mode, owner, group, time and links. Owners are "
        "the same by name, with `numeric_ids` by number; `sparse` keeps holes.",
    )
    rsh: Plain = Field(
        default="ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 "
        "-o ServerAliveCountMax=3",
        description="The remote shell, where one end is on another host. Keys are named by path, "
        "as in `ssh -i /root/.ssh/move`.",
    )
    options: Names = Field(
        default=(), description="Further options of rsync, like `--bwlimit=5m`, `--compress`, or "
        "`--modify-window=1` where a file system keeps no fractions of seconds."
    )

    empty: bool = Field(
        default=False, description="A source without anything in it is meant. Else it is taken for "
        "a file system that is not mounted, and refused where it would matter."
    )

    @model_validator(mode="after")
    def _ends_are_sound(self) -> Self:
        ends = (("source", self.source, self.source_host), ("destination", self.destination,
                                                           self.to))
        for key, path, host in ends:
            if host is not None and is_remote(path):
                raise ValueError(f"`{key}` is a plain path where its host is named")
            if path.startswith("~"):
                raise ValueError(f"`~` is not known in `{key}`: relative paths start at home")
        if all(host is not None or is_remote(path) for _, path, host in ends):
            raise ValueError("source and destination cannot both be remote: run it on one of them")
        for option in self.options:
            if not option.startswith("-") or _OWN.fullmatch(option):
                raise ValueError(f"the option {option!r} cannot be given here")
            if _CHOOSES.fullmatch(option) and not self.may_choose():
                raise ValueError(
                    f"with the option {option!r} different trees would pass for the same: what is "
                    "left out is named under `exclude`"
                )
        return self

    def may_choose(self) -> bool:
        """Whether options may leave out what differs: only where nothing is proven by it."""
        return False

    def named_hosts(self) -> tuple[str, ...]:
        return tuple(one for one in (self.source_host, self.to) if one is not None)

    def preview(self) -> tuple[str, ...]:
        source = f"{self.source_host}:{self.source}" if self.source_host else self.source
        target = f"{self.to}:{self.destination}" if self.to else self.destination
        return (shlex.join(["rsync", *self.flags(), source, target]),)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """rsync 3.1.3 or newer on both hosts, and a login from the one to the other."""
        here, other = reads.here, self.source_host or self.to
        found = [version_meets(here, "rsync", RSYNC)]
        if other is None:
            return tuple(found)
        try:
            there = reads.on(other)
            evidence = self.ways(reads)
        except RunbookError as fault:
            return (*found, Need(what=f"{other} can be asked", ok=None, seen=fault.message))

        def look() -> Seen:
            done = here.query(
                shlex.join([*self.shell(evidence), evidence["remote"]["login"], "true"])
            )
            return Seen(done.exit_code == 0, tail(done.stderr) or "yes")

        return (
            *found, version_meets(there, "rsync", RSYNC, where=f" on {other}"),
            need(
                f"a login at {other} works from here by itself", look,
                made_by=(*place(here), *place(there)),
                hint="a key without a password for this user, and the other's host key among its "
                "known hosts",
            ),
        )

    def flags(self) -> list[str]:
        """What rsync is told beside the two ends, here and wherever it is previewed."""
        return ["-a", _EXACT_TIME, *self.kept(), *self.options, *self.excludes()]

    def kept(self) -> tuple[str, ...]:
        return tuple(_PRESERVED[name] for name in self.preserve)

    def excludes(self) -> tuple[str, ...]:
        # Spools of runs, and what undo needs, live in such folders: --delete must not reach them.
        return tuple(f"--exclude={pattern}" for pattern in (SPOOL, *self.exclude))

    def ways(self, reads: Reads) -> dict[str, Any]:
        """Evidence that ``plan`` and ``undo``, which are pure, find the hosts in."""
        evidence = {**whose(reads), "key": _folder(reads.key)}
        other = self.source_host or self.to
        if other is not None:
            evidence["remote"] = _login(reads.on(other).host, other)
        return evidence

    def source_end(self, evidence: dict[str, Any]) -> str:
        return _on(evidence["remote"], self.source) if self.source_host else self.source

    def target_end(self, evidence: dict[str, Any], inside: str = "") -> str:
        path = self.destination.rstrip("/") + "/" + inside
        return _on(evidence["remote"], path) if self.to else path

    def arguments(
        self, evidence: dict[str, Any], source: str, target: str, flags: Sequence[str]
    ) -> tuple[str, ...]:
        """rsync's arguments: flags, ``--``, and the two ends last."""
        found = [*flags, "-s"]
        if any(is_remote(end) and "::" not in end and "://" not in end for end in (source, target)):
            found += ["-e", shlex.join(self.shell(evidence))]
        return (*found, "--", source, target)

    def shell(self, evidence: dict[str, Any]) -> list[str]:
        port = (evidence.get("remote") or {}).get("port")
        return shlex.split(self.rsh) + (["-p", str(port)] if port is not None else [])

    def far(self, evidence: dict[str, Any]) -> tuple[str, ...]:
        """The remote shell and login of the destination; empty where it is here."""
        return (*self.shell(evidence), evidence["remote"]["login"]) if self.to else ()


def is_remote(end: str) -> bool:
    """As rsync decides it: a colon before the first slash."""
    return _REMOTE.match(end) is not None


def complaint(stderr: str) -> str:
    """The first complaint of rsync; its last line only repeats the exit status."""
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "no message")


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _login(host: Host | None, name: str) -> dict[str, Any]:
    if host is None:
        raise NotFound(f"there is no host {name!r} in the inventory")
    login = f"{host.user}@{host.address}" if host.user else host.address
    return {"login": login, "user": host.user, "port": host.port}


def _on(remote: dict[str, Any], path: str) -> str:
    """A path on another machine as rsync wants it, an IPv6 address in brackets."""
    user, at, address = remote["login"].rpartition("@")
    return f"{user}{at}[{address}]:{path}" if ":" in address else f"{remote['login']}:{path}"


def _folder(key: str) -> str:
    """A folder name for the identity of a node: readable, and never two nodes the same."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip(".-")[:80]
    return f"{readable}-{sha256(key.encode())[:12]}"
