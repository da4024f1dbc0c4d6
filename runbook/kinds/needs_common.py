"""Questions that a probe puts to the world for the needs of steps. They read, and never raise."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

from runbook.errors import Errored, RunbookError
from runbook.kinds._capacity import free_disk, meets, program_version
from runbook.kinds._shared import sha256, tail
from runbook.model.need import Need, coming, on_host
from runbook.model.ports import HostReads

_LONGEST_SCRIPT = 100_000
"""Characters of a command that is looked through for errors of syntax."""

_FOLDER = """\
export LC_ALL=C
d={folder}
if [ ! -d "$d" ]; then echo missing; exit; fi
[ -w "$d" ] && [ -x "$d" ] && echo yes && exit
echo "no $(id -un) $(stat -c '%U:%G, mode %a' -- "$d")"
"""

# Whose the file shall be: who is named, else whose it is now.
_OWNER = """\
export LC_ALL=C
p={path} owner={owner} group={group} uid= gid=
if [ -f "$p" ] && [ ! -L "$p" ]; then uid=$(stat -c %u -- "$p") gid=$(stat -c %g -- "$p"); fi
if [ "$owner" ]; then uid=$(id -u -- "$owner" 2>/dev/null) || {{ echo "nobody $owner"; exit; }}; fi
if [ "$group" ]; then
  gid=$(awk -F: -v g="$group" '$1 == g {{ print $3 }}' /etc/group)
  [ "$gid" ] || gid=$(getent group "$group" 2>/dev/null | cut -d: -f3)
  [ "$gid" ] || {{ echo "nobody group $group"; exit; }}
fi
me=$(id -u)
if [ "$me" = 0 ]; then echo yes; exit; fi
[ "${{uid:-$me}}" = "$me" ] || {{ echo "no $(id -un) $uid"; exit; }}
[ -z "$gid" ] || case " $(id -G) " in *" $gid "*) ;; *) echo "no $(id -un) group $gid"; exit ;; esac
echo yes
"""

# polkit's rules may go by the unit; only its yes to all units is an answer.
_UNITS = """\
if [ "$(id -u)" = 0 ]; then echo root; exit; fi
if pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$ >/dev/null 2>&1; then
  echo polkit; exit
fi
echo "no $(id -un)"
"""


class Seen(NamedTuple):
    """What a look gave: whether it is so (None: nobody can tell), in words, and more of
    :class:`~runbook.model.need.Need`."""

    ok: bool | None
    text: str
    fact: str = ""
    ends: float | None = None


def need(
    what: str, look: Callable[[], Seen], *, hint: str = "", grave: bool = True,
    made_by: tuple[str, ...] = (),
) -> Need:
    """A need, looked at now. What cannot be asked, or gives an answer that cannot be read, is
    unknown."""
    try:
        seen = look()
    except RunbookError as fault:
        return Need(what=what, ok=None, seen=fault.message, hint=fault.hint, grave=grave,
                    made_by=made_by)
    except (ValueError, LookupError) as fault:
        seen = Seen(None, f"an answer that cannot be read: {fault}")
    return Need(
        what=what, ok=seen.ok, seen=seen.text, hint="" if seen.ok else hint, grave=grave,
        fact=seen.fact, ends=seen.ends, made_by=made_by,
    )


def place(here: HostReads) -> tuple[str, ...]:
    """Where an earlier command may bring about what a host lacks."""
    return (on_host(here.host.name if here.host is not None else None),)


def folder_takes_files(here: HostReads, folder: str, *, run_as: str | None = None) -> Need:
    """Whether files can be made in a folder, by whom the step acts as."""

    def look() -> Seen:
        word, _, rest = _said(here, _FOLDER.format(folder=shlex.quote(folder)), run_as)
        if word == "missing":
            return Seen(False, "there is no such folder")
        who, _, whose = rest.partition(" ")
        return Seen(word == "yes", f"{who} may not write there ({whose})" if rest else "yes")

    return need(
        f"the folder {folder} takes files", look, made_by=place(here),
        hint="make the folder, give the rights, or let the step act as another user (`run_as`)",
    )


def owner_can_be_set(
    here: HostReads, path: str, owner: str | None, group: str | None, *,
    run_as: str | None = None,
) -> Need:
    """Whether a new file at a path can get the owner it shall have."""

    def look() -> Seen:
        script = _OWNER.format(
            path=shlex.quote(path), owner=shlex.quote(owner or ""), group=shlex.quote(group or "")
        )
        word, _, rest = _said(here, script, run_as)
        if word == "nobody":
            return Seen(False, f"there is no {rest if 'group' in rest else f'user {rest}'}")
        who, _, whose = rest.partition(" ")
        return Seen(word == "yes", f"{who} may not give it to {whose}" if rest else "yes")

    return need(
        f"{path} gets the owner it shall have", look, made_by=place(here),
        hint="only root may give files away: let the step act as root (`run_as`)",
    )


def room_for(here: HostReads, folder: str, size: int, what: str) -> Need:
    """Whether a file system has so many bytes free."""
    return need(
        f"there is room for {what}", lambda: Seen(*free_disk(here, folder, size)),
        hint=f"make room where {folder} is", made_by=place(here),
    )


def program_is_there(here: HostReads, name: str, *, run_as: str | None = None) -> Need:
    def look() -> Seen:
        told = here.query(f"command -v {shlex.quote(name)}", run_as=run_as)
        found = told.stdout.strip()
        return Seen(told.exit_code == 0, found or "it is not there, or not on the PATH")

    return need(f"{name} is there", look, made_by=place(here), hint=f"install {name}")


def version_meets(here: HostReads, name: str, wanted: str, *, where: str = "") -> Need:
    """Whether a program is there in a version; another version later is news."""

    def look() -> Seen:
        found = program_version(here, name)
        if not found:
            return Seen(False, "it is not there")
        return Seen(meets(found, wanted), found, fact=found)

    return need(
        f"{name} {wanted} is there{where}", look, hint=f"install {name} {wanted}",
        made_by=place(here),
    )


def units_can_be_managed(here: HostReads, *, run_as: str | None = None) -> Need:
    """The right to start and stop systemd's units."""

    def look() -> Seen:
        word, _, who = _said(here, _UNITS, run_as)
        if word != "no":
            return Seen(True, f"by {word}", fact=word)
        return Seen(None, f"{who} is not root, and polkit gives no right to all units")

    return need(
        "systemd obeys", look, made_by=place(here),
        hint="let the step act as root (`run_as: root`), or see that polkit lets this user",
    )


def shell_reads(here: HostReads, script: str, what: str, *, run_as: str | None = None) -> Need:
    """Whether the host's shell finds no error in a script. It executes nothing (sh(1), ``-n``)."""

    def look() -> Seen:
        if len(script) > _LONGEST_SCRIPT:
            return Seen(None, f"it is longer than {_LONGEST_SCRIPT} characters")
        end = f"END_{sha256(script.encode())[:12]}"
        told = here.query(f"sh -n <<'{end}'\n{script}\n{end}\n", run_as=run_as)
        return Seen(told.exit_code == 0, tail(told.stderr) or "yes")

    return need(f"sh finds no error in {what}", look, hint="mend the command")


def first_word(command: str) -> str:
    """The program that a command begins with, where that is sure; else empty."""
    lines = [line.strip() for line in command.splitlines()]
    line = next((one for one in lines if one and not one.startswith("#")), "")
    word = line.partition(" ")[0]
    return word if re.fullmatch(r"[A-Za-z0-9_./+-]+", word) else ""


def same_version(
    one: str, other: str, version: Callable[[str], str], *, of: str, parts: int = 1
) -> Need:
    """Whether two database servers are alike enough: ``parts`` of their versions are the same,
    which together are called ``of``. Another version of either is news."""

    def look() -> Seen:
        left, right = version(one), version(other)
        if left == right:
            return Seen(True, left, fact=left)
        alike = left.split(".")[:parts] == right.split(".")[:parts]
        return Seen(alike, f"{one} has {left}, {other} has {right}", fact=f"{left}, {right}")

    return need(f"{one} and {other} are of one {of}", look, made_by=(coming(one), coming(other)))


def writes_turn(name: str, *, refused: bool) -> tuple[str, ...]:
    """What changes where a server that takes writes, or refuses them, is switched."""
    words = ("takes writes", "refuses writes")
    return (f"{name}: {words[refused]} → {words[not refused]}",)


def _said(here: HostReads, script: str, run_as: str | None) -> tuple[str, str, str]:
    """The first word of what a script says, and the rest. Raises Errored where it says nothing."""
    told = here.query(script, run_as=run_as)
    if told.exit_code != 0 or not told.stdout.strip():
        raise Errored(tail(told.stderr) or "the host gives no answer")
    return told.stdout.strip().partition(" ")
