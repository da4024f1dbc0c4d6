"""POSIX-sh texts for rsync: compare, copy keeping what was there, put back. Pure.

What undo needs is taken before the copy, from the list of a dry run (rsync(1), ``--dry-run``):
paths that do not exist yet are *created*, and of all others, deleted and only retouched ones
included, a copy is kept in a folder beside the destination's machine. rsync's own ``--backup``
would not do: it keeps neither changed permissions and times nor the attributes of deleted folders.

Two texts run where the destination is: *keep*, which reads the list, and *note*, which reads
what the copy really did. For a destination on another host they are sent there by the remote
shell. Every attempt has its own numbered folder; undo goes back through them, the newest first.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SAMPLE = 50
"""Differences that are listed by name."""

_LIST = ("-8", "--out-format=%i %l %n")

# Lines of rsync are "%i %l %n" (rsyncd.conf(5), "log format"): eleven characters of what
# changes, or "*deleting"; the length; the name. Other lines are messages.
_MESSAGE = 'length($1)!=11&&$1!="*deleting"{next} '

# Times of folders alone do not count: every program that makes a file changes them.
_COUNT = (
    "/^=exit /{rc=$2;next} " + _MESSAGE + "$1~/^\\.d\\.\\.t\\.+$/{next} "
    "{n++;if($1~/^[<>]f/){files++;bytes+=$2} if(n<=" + str(SAMPLE) + ")print} "
    'END{printf "=total %d %d %.0f %d\\n",n,files,bytes,rc}'
)
_NAMES = _MESSAGE + '{sub(/^[^ ]+ +[0-9]+ /,"");sub(/\\/$/,"");print}'
_NEW_NAMES = '$1!~/\\+\\+\\+$/{next} ' + _NAMES
_WITH_PARENTS = (
    "{print;p=$0;while(sub(/\\/[^\\/]*$/,\"\",p))if(!(p in seen)){seen[p]=1;print p}} "
    'END{print "."}'
)
_SUMMARY = (
    "$1~/^[<>]f/{n++;b+=$2} END{printf \"%d files, %.0f bytes\\n\",n,b}"
)

_OUTCOME = """\
if [ "$rc" = 24 ]; then
  echo 'some files vanished from the source during the copy (rsync status 24)' >&2
  rc=0
fi
exit "$rc"
"""


def compare(arguments: Sequence[str]) -> str:
    """Prints up to 50 lines of differences and ``=total COUNT FILES BYTES EXIT``."""
    return f"{_listing(arguments)} | {_awk(_COUNT)}"


def copy(arguments: Sequence[str]) -> str:
    """A copy that keeps nothing, for a destination that is out of reach."""
    return f"{_rsync(arguments)}\nrc=$?\n{_OUTCOME}"


def copy_keeping(
    arguments: Sequence[str], *, destination: str, saved: str, preserve: Sequence[str],
    remote: Sequence[str] = (),
) -> str:
    """A copy that first keeps all that is needed to put the destination back.

    ``remote``: the remote shell and the machine the destination is on; empty: this one. Exit
    statuses beside rsync's own: 65 a name that cannot be kept, 73 it could not be kept; in both
    cases nothing was copied. 74: copied, but what was done could not be noted.
    """
    keep = _at(remote, _keep(destination, saved, preserve))
    note = _at(remote, _note(saved))
    return f"""\
list=$(mktemp) || exit 73
trap 'rm -f "$list"' EXIT
trap 'exit 143' TERM
{_listing(arguments)} | {keep} || exit
{_rsync([*_LIST, *arguments])} >"$list"
rc=$?
{{ cat "$list"; echo "=exit $rc"; }} | {note} || exit 74
{_awk(_SUMMARY)} "$list"
{_OUTCOME}"""


def put_back(*, destination: str, saved: str, preserve: Sequence[str]) -> str:
    """Removes what was created and puts back what was kept. May be repeated.

    Exit status 3: some paths changed during the copy and were not kept; they are listed.
    """
    restore = _rsync(["-aI", *preserve, "--from0"])
    return f"""\
{_places(destination, saved)}
lost=
n=0
while [ -e "$saved/$((n + 1))" ]; do n=$((n + 1)); done
while [ "$n" -gt 0 ]; do
  keep=$saved/$n
  if [ -e "$keep/ready" ]; then
    LC_ALL=C sort -r "$keep/created" | while IFS= read -r p; do
      if [ "$p" = . ]; then continue
      elif [ -d "$dest/$p" ] && ! [ -L "$dest/$p" ]; then rmdir "$dest/$p"
      else rm -f "$dest/$p"
      fi
    done
    if grep -qx '\\.' "$keep/created"; then rmdir "$dest"; fi
    if [ -s "$keep/prior0" ]; then
      {restore} --files-from="$keep/prior0" "$keep/tree/" "$dest/" || exit
    fi
    if [ -s "$keep/unkept" ]; then
      echo 'changed during the copy, so their former state is not known:' >&2
      head -n 20 "$keep/unkept" >&2
      lost=1
    fi
  fi
  [ "$lost" ] || rm -rf "$keep"
  n=$((n - 1))
done
[ -z "$lost" ] || exit 3
rmdir "$saved" "${{saved%/*}}" 2>/dev/null || :
"""


def _keep(destination: str, saved: str, preserve: Sequence[str]) -> str:
    copy_prior = _rsync(["-a", *preserve, "--from0"])
    return f"""\
{_places(destination, saved)}
n=1
while [ -e "$saved/$n" ]; do n=$((n + 1)); done
keep=$saved/$n
(umask 077 && mkdir -p "$keep/tree") || exit 73
cat >"$keep/list" || exit 73
# A list that was cut short must not pass for a whole one.
case $(tail -n 1 "$keep/list") in
  '=exit 0' | '=exit 24') ;;
  '=exit '*) echo 'rsync could not compare; nothing was copied' >&2; exit 73 ;;
  *) echo 'the list of differences is not complete; nothing was copied' >&2; exit 73 ;;
esac
if grep '\\\\#[0-7][0-7][0-7]' "$keep/list" >&2; then
  echo 'such names could not be put back; nothing was copied' >&2
  exit 65
fi
{_awk(_NAMES)} "$keep/list" | LC_ALL=C sort -u >"$keep/names"
# In this order a folder is followed by what is in it. What lies behind a symbolic link is not
# the destination's.
link=/
{_awk(_WITH_PARENTS)} "$keep/names" | tr / '\\001' | LC_ALL=C sort -u | tr '\\001' / |
  while IFS= read -r p; do
    case $p in "$link"/*) continue ;; esac
    if [ -L "$dest/$p" ]; then link=$p; printf '%s\\n' "$p"
    elif [ -e "$dest/$p" ]; then printf '%s\\n' "$p"
    fi
  done | LC_ALL=C sort >"$keep/prior"
LC_ALL=C comm -23 "$keep/names" "$keep/prior" >"$keep/created"
tr '\\n' '\\0' <"$keep/prior" >"$keep/prior0"
if [ -s "$keep/prior0" ]; then
  {copy_prior} --files-from="$keep/prior0" "$dest/" "$keep/tree/" || exit 73
fi
sync
: >"$keep/ready" || exit 73
"""


def _note(saved: str) -> str:
    """What came to light only during the copy: new files can be removed, the rest was not kept."""
    return f"""\
saved={_home(saved)}
n=1
while [ -e "$saved/$((n + 1))" ]; do n=$((n + 1)); done
cd "$saved/$n" || exit 74
cat >did
{_awk(_NEW_NAMES)} did | LC_ALL=C sort -u | LC_ALL=C comm -23 - prior >later
LC_ALL=C sort -u later created >created.new && mv created.new created || exit 74
{_awk(_NAMES)} did | LC_ALL=C sort -u | LC_ALL=C comm -23 - prior |
  LC_ALL=C comm -23 - created >unkept
"""


def _places(destination: str, saved: str) -> str:
    # "./" keeps a relative path that begins with a dash, or holds a colon, from being misread.
    path = destination.rstrip("/") or "/"
    start = path if path.startswith("/") else f"./{path}"
    return f"dest={shlex.quote(start)}\nsaved={_home(saved)}"


def _home(key: str) -> str:
    return f"$HOME/.runbook/rsync/{shlex.quote(key)}"


def _at(remote: Sequence[str], script: str) -> str:
    """A command that runs a script here, or through the remote shell."""
    here = f"/bin/sh -c {shlex.quote(script)}"
    return f"{shlex.join(remote)} {shlex.quote(here)}" if remote else here


def _listing(arguments: Sequence[str]) -> str:
    dry = _rsync(["--dry-run", *_LIST, *arguments])
    return f'{{ {dry}; echo "=exit $?"; }}'


def _rsync(arguments: Sequence[str]) -> str:
    return shlex.join(["rsync", *arguments])


def _awk(program: str) -> str:
    return f"LC_ALL=C awk {shlex.quote(program)}"
