"""POSIX-sh scripts that keep, write, remove and put back one file. Pure: text in, text out.

All of them end with 0 or say on standard error why not. Nothing is changed before the last
rename; the file and its folder are on disk when a script ends.
"""

from __future__ import annotations

import shlex

_HEAD = """\
p={path}
d=${{p%/*}}; d=${{d:-/}}
t=$d/.runbook.$$
export LC_ALL=C
die() {{ rm -f -- "$t" 2>/dev/null; printf '%s\\n' "$1" >&2; exit 1; }}
"""

_PLACE = """\
[ -d "$d" ] || die "the folder $d does not exist; nothing was changed"
[ -d "$p" ] && [ ! -L "$p" ] && die "$p is a directory; nothing was changed"
"""

# mv(1) moves *into* a link that leads to a directory, so such a link goes first.
_COMMIT = """\
sync -- "$t" || die "the new content cannot be put on disk; $p was not changed"
[ -L "$p" ] && [ -d "$p" ] && rm -f -- "$p"
mv -f -- "$t" "$p" || die "$p cannot be replaced; it was not changed"
sync -- "$d"
exit 0
"""

_REMOVE = """\
[ -d "$p" ] && [ ! -L "$p" ] && die "$p is a directory; nothing was changed"
rm -f -- "$p" || die "$p cannot be removed"
[ -d "$d" ] && sync -- "$d"
exit 0
"""

_OWN = """\
if [ "$(stat -c '%u %g' -- "$t")" != "$uid $gid" ]; then
  chown -- "$uid:$gid" "$t" || die "$p belongs to $uid:$gid, which cannot be kept; not changed"
fi
"""


def put_script(
    path: str, *, size: int, mode: int | None, owner: str | None, group: str | None
) -> str:
    """Content on standard input, ``size`` bytes. Mode and owner that are not given stay as they
    are; a new file gets mode 0644. A symbolic link is replaced, not followed."""
    spec = (owner or "") + (f":{group}" if group else "")
    own = ""
    if spec:
        own = f'chown -- {shlex.quote(spec)} "$t" || die "the owner of $p cannot be set"\n'
    chosen = f"{mode:o}" if mode is not None else '"$mode"'
    return _head(path) + _PLACE + f"""\
mode=644 uid= gid=
if [ -f "$p" ] && [ ! -L "$p" ]; then
  set -- $(stat -c '%a %u %g' -- "$p")
  mode=$1 uid=$2 gid=$3
fi
(umask 077; cat >"$t") || die "no room for the new content; $p was not changed"
[ "$(stat -c %s -- "$t")" = {size} ] || die "the content did not arrive whole; $p was not changed"
if [ "$uid" ]; then
{_OWN}fi
{own}chmod {chosen} "$t" || die "the mode of $p cannot be set; it was not changed"
""" + _COMMIT


def remove_script(path: str) -> str:
    return _head(path) + _REMOVE


def save_script(path: str) -> str:
    """What there is goes to standard output: one line (``absent``, ``link``, or ``file`` with
    mode, uid, gid and size), then the content or the link's target."""
    return _head(path) + """\
if [ -L "$p" ]; then
  printf 'link\\n' && readlink -- "$p"
elif [ -f "$p" ]; then
  was=$(stat -c '%a %u %g %s %Y' -- "$p") || die "$p cannot be read"
  printf 'file %s\\n' "$was"
  cat -- "$p" || die "$p cannot be read; nothing was changed"
  [ "$(stat -c '%a %u %g %s %Y' -- "$p")" = "$was" ] || die "$p changes while it is being kept"
elif [ -e "$p" ]; then
  die "$p is not a regular file; nothing was changed"
else
  why=$(stat -- "$p" 2>&1 >/dev/null)
  case $why in
    *"No such file"*|*"Not a directory"*) printf 'absent\\n' ;;
    *) die "$p cannot be looked at: $why" ;;
  esac
fi || die "$p cannot be kept; nothing was changed"
sync /proc/self/fd/1 2>/dev/null || sync
"""


def restore_script(path: str) -> str:
    """The reverse of :func:`save_script`, whose output is on standard input."""
    return _head(path) + f"""\
IFS=' ' read -r kind mode uid gid size rest
case $kind in
absent)
{_REMOVE};;
link)
{_PLACE}IFS= read -r target || die "what was kept is torn; $p was not changed"
ln -s -- "$target" "$t" || die "the link cannot be made; $p was not changed"
[ -L "$p" ] && [ -d "$p" ] && rm -f -- "$p"
mv -f -- "$t" "$p" || die "$p cannot be replaced"
sync -- "$d"
exit 0
;;
file)
{_PLACE}(umask 077; cat >"$t") || die "no room for the kept content; $p was not changed"
[ "$(stat -c %s -- "$t")" = "$size" ] || die "what was kept is torn; $p was not changed"
{_OWN}chmod "$mode" "$t" || die "the mode of $p cannot be set; it was not changed"
{_COMMIT};;
*) die "what was kept cannot be read; $p was not changed" ;;
esac
"""


def _head(path: str) -> str:
    return _HEAD.format(path=shlex.quote(path))
