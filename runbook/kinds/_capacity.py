"""What ``capacity.check`` looks at: each gives whether it is enough, and what was seen."""

from __future__ import annotations

import re
import shlex
from itertools import zip_longest

from runbook.errors import Errored
from runbook.kinds._shared import tail
from runbook.kinds.clock_common import apart
from runbook.kinds.sql_common import answer
from runbook.model.duration import format_duration
from runbook.model.ports import HostReads, Reads

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
CONDITION = re.compile(r"\s*(>=|<=|==|=|>|<|!=)\s*v?(\d+(?:\.\d+)*)\s*")
_ASKED_BY = {"nginx": "-v", "haproxy": "-v", "ssh": "-V", "java": "-version", "named": "-v",
             "postfix": "-v"}
"""How programs are asked that do not know ``--version``."""


def meets(version: str, wanted: str) -> bool:
    """Whether a version keeps to every part of a condition. Numbers are compared, part by part;
    an epoch, and what follows the first other character, do not count."""
    number = _NUMBER.search(re.sub(r"^\d+:", "", version))
    if number is None:
        return False
    return all(_compares(number[0], *found.groups())
               for part in wanted.split(",") if (found := CONDITION.fullmatch(part)))


def _compares(version: str, operator: str, wanted: str) -> bool:
    left = [int(part) for part in version.split(".")]
    right = [int(part) for part in wanted.split(".")]
    if operator in {"=", "==", "!="}:
        # `==15` means any 15: only as many parts as were written.
        same = left[: len(right)] == right
        return same if operator != "!=" else not same
    pairs = list(zip_longest(left, right, fillvalue=0))
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    return {">=": one >= other, "<=": one <= other, ">": one > other, "<": one < other}[operator]


def program_version(here: HostReads, name: str) -> str:
    """The first number with dots that a program says of itself; empty where there is none."""
    word = shlex.quote(name)
    flag = _ASKED_BY.get(name.rpartition("/")[2], "--version")
    told = here.query(f"command -v {word} >/dev/null 2>&1 || exit 9; {word} {flag} 2>&1")
    if told.exit_code == 9:
        return ""
    found = re.search(r"\d+(?:\.\d+)+|\d+", told.stdout)
    if found is None:
        raise Errored(f"`{name} {flag}` says no version: {tail(told.stdout)}")
    return found[0]


def package_version(here: HostReads, name: str) -> str:
    """The whole version of an installed package; empty where it is not installed."""
    word = shlex.quote(name)
    told = here.query(
        "if command -v dpkg-query >/dev/null 2>&1; then "
        f"dpkg-query -W -f='${{db:Status-Status}} ${{Version}}' {word} 2>/dev/null; "
        "elif command -v rpm >/dev/null 2>&1; then "
        f"rpm -q --qf 'installed %{{VERSION}}-%{{RELEASE}}' {word} 2>/dev/null; else exit 9; fi"
    )
    if told.exit_code == 9:
        raise Errored("neither dpkg-query nor rpm is there")
    status, _, version = told.stdout.strip().partition(" ")
    return version if told.exit_code == 0 and status == "installed" else ""


def free_disk(here: HostReads, path: str, least: int) -> tuple[bool, str]:
    free = int(_df(here, path, "-Pk")[3]) * 1024
    return free >= least, _enough(shown(free), shown(least), free >= least, " free")


def free_inodes(here: HostReads, path: str, least: int) -> tuple[bool, str]:
    fields = _df(here, path, "-Pi")
    if fields[1] in {"0", "-"}:
        return True, "as many as there is room for: this file system counts none"
    free = int(fields[3])
    return free >= least, _enough(str(free), str(least), free >= least, " free")


def _df(here: HostReads, path: str, flag: str) -> list[str]:
    told = here.query(f"df {flag} -- {shlex.quote(path)}")
    fields = told.stdout.splitlines()[-1].split() if told.stdout.strip() else []
    if told.exit_code != 0 or len(fields) < 6:
        raise Errored(f"df cannot tell: {tail(told.stderr) or tail(told.stdout)}")
    return fields


def memory(here: HostReads, key: str, least: int) -> tuple[bool, str]:
    told = here.query("cat /proc/meminfo")
    found = re.search(rf"^{key}:\s+(\d+) kB", told.stdout, re.MULTILINE)
    if found is None:
        raise Errored("/proc/meminfo does not tell")
    has = int(found[1]) * 1024
    return has >= least, _enough(shown(has), shown(least), has >= least)


def clock(reads: Reads, most: float) -> tuple[bool, str]:
    ahead, took = apart(reads.here, reads.on(None))
    told = f"within {format_duration(took)}" if not ahead else (
        f"{format_duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    )
    return abs(ahead) <= most, _enough(told, format_duration(most), abs(ahead) <= most)


def _installed(reads: Reads, name: str) -> dict[str, str]:
    """Extensions of a PostgreSQL database, or active plugins of a MySQL server, with versions."""
    return _ask_database(
        reads, name, "SELECT extname, extversion FROM pg_extension ORDER BY 1",
        "SELECT plugin_name, plugin_version FROM information_schema.plugins "
        "WHERE plugin_status = 'ACTIVE' ORDER BY 1",
    )


def _offered(reads: Reads, name: str) -> dict[str, str]:
    if reads.database(name).database.engine == "mysql":
        return _installed(reads, name)
    return _ask_database(
        reads, name, "SELECT name, default_version FROM pg_available_extensions ORDER BY 1", ""
    )


def _ask_database(reads: Reads, name: str, postgres: str, mysql: str) -> dict[str, str]:
    database = reads.database(name)
    statement = {"postgres": postgres, "mysql": mysql}.get(database.database.engine, "")
    if not statement:
        raise Errored(f"{name} is {database.database.engine}, which has no extensions")
    return {str(row[0]): str(row[1]) for row in answer(database, statement).rows}


def offers(reads: Reads, name: str, wanted: dict[str, str]) -> tuple[bool, str]:
    """Whether a database offers extensions, each in a version at least (empty: any)."""
    offered = {key.lower(): version for key, version in _offered(reads, name).items()}
    lacking = [key for key in wanted if key.lower() not in offered]
    older = [
        f"{key} {offered[key.lower()]}, wanted {version}" for key, version in wanted.items()
        if version and key.lower() in offered and not meets(offered[key.lower()], f">={version}")
    ]
    if lacking or older:
        missing = [f"it does not offer {', '.join(lacking)}"] if lacking else []
        return False, "; ".join(missing + older)
    return True, f"it offers {', '.join(wanted) or 'all of none'}"


def offers_like(reads: Reads, name: str, other: str) -> tuple[bool, str]:
    """Whether a database offers every extension of another one, and none in an older version."""
    return offers(reads, name, _installed(reads, other))


def _enough(has: str, wanted: str, ok: bool, what: str = "") -> str:
    return f"{has}{what}" if ok else f"{has}{what}, wanted {wanted}"


def shown(size: int) -> str:
    for unit in ("T", "G", "M", "K"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f}".rstrip("0").rstrip(".") + unit
    return str(size)
