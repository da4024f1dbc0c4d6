"""What actions rely on, whatever kind plans them: a folder, a right to a zone, a shell that can
read the command. And what they would change, where the kind does not say it itself."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator

from runbook.errors import RunbookError
from runbook.kinds.needs_common import (
    Seen,
    folder_takes_files,
    need,
    owner_can_be_set,
    room_for,
    shell_reads,
)
from runbook.model.actions import (
    Action,
    AskOperator,
    ChangeRecordSet,
    ExecuteSql,
    FileContent,
    PutFile,
    RunCommand,
)
from runbook.model.need import EVERYWHERE, Need, in_database, on_host
from runbook.model.plan import Plan
from runbook.model.ports import HostReads, Reads
from runbook.model.secrets import names_in

LINES = 12
"""Lines of a file's difference that are told."""
_LONGEST = 60_000
"""Bytes of a content that is sent to a host to be compared there."""
_WORD = re.compile(r"[\w.:-]+")

# Lines of a file leave its host only where everybody there may read it; else their number does.
_DIFFERENCE = """\
export LC_ALL=C
p={path}
[ -f "$p" ] && [ ! -L "$p" ] || exit 0
t=$(printf %s {content} | diff -U 0 -- "$p" - | sed 1,2d | grep '^[-+]')
mode=$(stat -c %a -- "$p")
case ${{mode#"${{mode%?}}"}} in
  [4567]) printf '%s\\n' "$t" ;;
  *) printf '=%s lines go, %s come\\n' "$(printf '%s\\n' "$t" | grep -c '^-')" \\
       "$(printf '%s\\n' "$t" | grep -c '^+')" ;;
esac
"""


def needs_of(actions: Iterable[Action], reads: Reads) -> Iterator[Need]:
    """Reads, and never raises."""
    zones: set[str] = set()
    for number, action in enumerate(actions):
        if isinstance(action, PutFile):
            yield from _of_file(action, reads)
        elif isinstance(action, RunCommand):
            what = "the command" if not number else f"command {number + 1}"
            yield shell_reads(
                reads.on(action.host), action.script, what, run_as=action.run_as
            )
        elif isinstance(action, ChangeRecordSet) and action.zone not in zones:
            # A later change of the same zone goes by what the first one leaves.
            zones.add(action.zone)
            yield _of_zone(action, reads)


def undo_command_reads(reads: Reads, command: str) -> Need:
    """The same for a command that the runbook itself gives for the way back."""
    return shell_reads(reads.here, command, "the undo command")


def places(actions: Iterable[Action], plan: Plan) -> frozenset[str]:
    """Where actions may change what later steps rely on."""
    found: set[str] = set()
    for action in actions:
        if isinstance(action, RunCommand):
            hosts = {action.host, *_named(action.script, plan)}
            found |= {on_host(name) for name in hosts}
            found |= {in_database(one.name) for one in plan.databases if one.host in hosts}
        elif isinstance(action, ExecuteSql):
            found.add(in_database(action.database))
        elif isinstance(action, AskOperator):
            found.add(EVERYWHERE)
    return frozenset(found)


def file_changes(action: PutFile, reads: Reads) -> tuple[str, ...]:
    """What of a file would change: sizes, mode, and the lines, as far as they may be told."""
    here = reads.on(action.host)
    now = here.file(action.path, run_as=action.run_as)
    if action.content is None:
        return (f"{action.path}: {_size(now.size)} → not there",) if now.exists else ()
    mode = f", mode {action.mode:04o}" if action.mode is not None else ""
    data = _content(action.content, reads)
    if not now.exists:
        size = "" if data is None else f", {_size(len(data))}"
        return (f"{action.path}: not there → a new file{size}{mode}",)
    lines = []
    for what, was, wanted in (
        ("mode", f"{now.mode:04o}", f"{action.mode:04o}" if action.mode is not None else None),
        ("owner", now.owner, action.owner), ("group", now.group, action.group),
    ):
        if wanted is not None and wanted != was:
            lines.append(f"{action.path}: {what} {was} → {wanted}")
    if data is None:
        lines.append(f"{action.path}: written anew; a secret stands in it, so it is not compared")
    elif len(data) <= _LONGEST and b"\0" not in data:
        lines += _lines(here, action, data.decode("utf-8", "replace"))
    return tuple(lines)


def _lines(here: HostReads, action: PutFile, text: str) -> list[str]:
    script = _DIFFERENCE.format(path=shlex.quote(action.path), content=shlex.quote(text))
    said = here.query(script, run_as=action.run_as).stdout.splitlines()
    found = [line for line in said if line]
    if found and found[0].startswith("="):
        return [f"{action.path}: {found[0][1:]}"]
    more = len(found) - LINES
    return [
        *(f"{action.path}: {line}" for line in found[:LINES]),
        *([f"{action.path}: and {more} more lines"] if more > 0 else []),
    ]


def _of_file(action: PutFile, reads: Reads) -> Iterator[Need]:
    here, folder = reads.on(action.host), posixpath.dirname(action.path) or "/"
    yield folder_takes_files(here, folder, run_as=action.run_as)
    if action.content is None:
        return
    yield owner_can_be_set(
        here, action.path, action.owner, action.group, run_as=action.run_as
    )
    try:
        size = len(_content(action.content, reads) or b"")
    except RunbookError as fault:
        yield Need(what=f"the content of {action.path} is there", ok=False, seen=fault.message)
        return
    yield room_for(here, folder, size, action.path)


def _of_zone(action: ChangeRecordSet, reads: Reads) -> Need:
    def look() -> Seen:
        right = reads.dns.update_right(reads.dns.zone(action.zone), action.changes)
        return Seen(right.may, right.seen)

    return need(
        f"{action.zone} takes our changes", look,
        hint="see the zone's `key:`, and what the name server lets it do",
    )


def _content(content: FileContent, reads: Reads) -> bytes | None:
    """None where secrets stand in it. Raises Errored."""
    if content.local is not None:
        return reads.read_local(content.local)
    if content.text is None or names_in(content.text):
        return None
    return content.text.encode()


def _named(script: str, plan: Plan) -> Iterator[str]:
    """Hosts that a command may reach, as their name or address stands in it."""
    words = {word.rstrip(".") for word in _WORD.findall(script)}
    words |= {part for word in words for part in word.split(":")}
    for host in plan.inventory.hosts:
        if {host.name, host.address} & words:
            yield host.name


def _size(count: int) -> str:
    return f"{count} byte{'s' if count != 1 else ''}"


