"""What the texts for trees of files share: the two ends, names, and how a tree stands. Pure.

They need rsync and nothing that a BusyBox has not. rsync lists, compares and copies, so that names,
owners, links and attributes are judged by the program that keeps them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from runbook.kinds._rsync import DECODE, ENTRY, LIST, NAME, SPOOL, awk, rsync

# Permissions, owner, group, length and time of everything. A link that leads elsewhere has another
# time.
_TREE = ("-aHn", "-8", "--out-format=%i %B %U %G %l %M %n")

NAMES = DECODE + ENTRY + "{" + NAME + ";print name($0)} END{exit bad?65:0}"
"""awk: from a list to the names in it, encoded; status 65 where one cannot be."""

NEW = DECODE + ENTRY + "$1!~/\\+\\+\\+$/{next} {" + NAME + ";print name($0)}"
"""awk: from a list to the names that the destination had not."""

ANYTHING = ENTRY + "$1~/^\\.d\\.\\.t\\.+$/{next} {n=1} END{exit n?0:1}"
"""awk: status 0 if a list has any difference but times of folders."""

# One line an entry, sorted, without what is no difference: lengths and times of folders.
_ENTRIES = (
    '/^=exit /{print;next} $1!~/^[<>ch.][fdLDS].........$/{next} '
    '{k=substr($1,2,1);if($1~/^h/)k="h";'
    'if(k=="d")sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /,k" "$2" "$3" "$4" - - ");'
    'else sub(/^[^ ]+/,k);print}'
)

CHANGES = """
/^=exit /{next}
{n = $0; for (i = 0; i < 6; i++) sub(/^[^ ]* /, "", n)}
NR == FNR {was[n] = $0; next}
!(n in was) {if (++c <= m) print "=changed new: " n; next}
{if (was[n] != $0 && ++c <= m) print "=changed altered: " n; delete was[n]}
END {
  for (n in was) if (++c <= m) print "=changed gone: " n
  if (c > m) print "=changed and " c - m " more"
}
"""
"""awk: from two outputs of :func:`entries` to the first ``m`` changes between them."""

READ_NAME = """\
decoded() {
  case $1 in
    *"$line_end"*) name=$(printf '%s' "$1" | tr '\\002' '\\n'; echo x); name=${name%x} ;;
    *) name=$1 ;;
  esac
}
line_end=$(printf '\\002')
"""
"""sh: ``decoded NAME`` sets ``name`` to what it stands for."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What is copied, and where to. ``arguments`` are those of rsync: flags, ``--``, source,
    destination."""

    arguments: tuple[str, ...]
    destination: str
    """Path of the destination on its own machine."""
    saved: str
    """Folder there that keeps what undo needs: a shell word that may begin with ``$HOME``."""
    key: str
    """Name that no other step has."""
    excludes: tuple[str, ...]
    preserve: tuple[str, ...]
    live: bool = False
    """New files may appear in the source at any moment."""
    remote: tuple[str, ...] = ()
    """The remote shell and the machine of the destination; empty: this one."""

    @property
    def work(self) -> str:
        """Folder, seen from the destination, in which files arrive."""
        return f"{SPOOL}{self.key}"


def entries(ends: Ends) -> str:
    """One line each, sorted, of everything in the destination that this step is about."""
    return entries_of(ends, "$dest/", plain=False)


def names_now(ends: Ends) -> str:
    """Names of everything in the destination that this step is about, sorted."""
    flags = ["-an", *LIST, *ends.excludes, "--"]
    return (
        f'{rsync(flags)} "$dest/" /nonexistent/{ends.key}/ | {awk(NAMES)} | LC_ALL=C sort -u'
    )


def entries_of(ends: Ends, end: str, *, plain: bool = True) -> str:
    """The same of any tree, ``end`` as rsync takes it; not ``plain``: a word of the shell."""
    rsh = [ends.arguments[n : n + 2] for n, a in enumerate(ends.arguments) if a == "-e"]
    flags = [*_TREE, *ends.excludes, *(rsh[0] if rsh and plain else ()), "--"]
    place = shlex.quote(end) if plain else f'"{end}"'
    return (
        f'{{ {rsync(flags)} {place} /nonexistent/{ends.key}/; echo "=exit $?"; }} | '
        f"{awk(_ENTRIES)} | LC_ALL=C sort"
    )


def top_of(ends: Ends) -> str:
    """Lists what is right in the source, and how rsync ended."""
    rsh = [ends.arguments[n : n + 2] for n, a in enumerate(ends.arguments) if a == "-e"]
    flags = ["-dn", "-8", "--out-format=%n", *ends.excludes, *(rsh[0] if rsh else ()), "-s", "--"]
    source = ends.arguments[-2].rstrip("/") + "/"
    listed = rsync([*flags, source, f"/nonexistent/{ends.key}/"])
    return f'{{ {listed} 2>/dev/null; echo "=exit $?"; }} | grep -vxF ./'


def places(ends: Ends) -> str:
    """Sets ``dest`` and ``saved`` where the destination is."""
    # "./" keeps a relative path that begins with a dash, or holds a colon, from being misread.
    path = ends.destination.rstrip("/") or "/"
    start = path if path.startswith("/") else f"./{path}"
    return f"dest={shlex.quote(start)}\nsaved={ends.saved}"


def mine(key: str) -> str:
    """A folder of this step on the machine it runs on."""
    return f'"$HOME"/{SPOOL}files-source/{shlex.quote(key)}'


def saved_in(folder: str, key: str) -> str:
    """The shell word for the folder of a step below ``folder`` (empty: that of the login)."""
    base = shlex.quote(folder.rstrip("/")) if folder else f'"$HOME"/{SPOOL}files'
    return f"{base}/{shlex.quote(key)}"
