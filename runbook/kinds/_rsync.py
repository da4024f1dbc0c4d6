"""How rsync is run, and what its lists say, for the texts of ``files.sync`` and ``files.compare``.

Lines of rsync escape control characters (``\\#012``), so one line is one name. Names are decoded
with a line end as \\002, and are ended by NUL where a program is given them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SAMPLE = 50
"""Differences that are listed by name."""

SPOOL = ".runbook/"
"""Folders of this name are left out of it all: spools of runs, and what undo needs, live there."""

# What changes, length, bytes sent, name: rsyncd.conf(5), "log format". What changes is eleven
# characters or "*deleting", and "hf" for a hard link alone. Other lines are messages and progress.
LIST = ("-8", "--out-format=%i %l %b %n")
ENTRY = '$1!~/^([<>ch.][fdLDS].........|h[fLDS])$/&&$1!="*deleting"{next} '
NAME = 'sub(/^[^ ]+ +[0-9]+ [0-9]+ /,"");sub(/\\/$/,"")'

DECODE = """
function name(s,  o,i,c,v) {
  while ((i = index(s, "\\\\#")) > 0) {
    c = substr(s, i + 2, 3)
    if (c ~ /^[0-7][0-7][0-7]$/) {
      v = substr(c, 1, 1) * 64 + substr(c, 2, 1) * 8 + substr(c, 3, 1)
      if (v < 3) bad = 1
      o = o substr(s, 1, i - 1) (v == 10 ? "\\002" : sprintf("%c", v)); s = substr(s, i + 5)
    } else { o = o substr(s, 1, i + 1); s = substr(s, i + 2) }
  }
  return o s
}
"""
HUMAN = """
function human(x,  u,i) {
  split("B kB MB GB TB PB", u, " ")
  for (i = 1; x >= 1000 && i < 6; i++) x /= 1000
  return sprintf(i > 1 ? "%.1f %s" : "%d %s", x, u[i])
}
"""

SUM = ENTRY + '$1~/^[<>]f/{n++;b+=$2;w+=$3} END{printf "%d %.0f %.0f\\n",n,b,w}'


def at(remote: Sequence[str], script: str) -> str:
    """A command that runs a script here, or through the remote shell."""
    here = f"/bin/sh -c {shlex.quote(script)}"
    return f"{shlex.join(remote)} {shlex.quote(here)}" if remote else here


def listing(arguments: Sequence[str]) -> str:
    return f'{{ {rsync(["--dry-run", *LIST, *arguments])}; echo "=exit $?"; }}'


def rsync(arguments: Sequence[str]) -> str:
    return shlex.join(["rsync", *arguments])


def awk(program: str, *options: str) -> str:
    """``options`` stand in double quotes, so that variables of the shell are put in."""
    words = "".join(f' "{option}"' for option in options)
    return f"LC_ALL=C awk{words} {shlex.quote(program)}"
