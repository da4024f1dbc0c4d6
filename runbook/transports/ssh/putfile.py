"""POSIX-sh scripts that keep, write, remove and put back one file. Pure: text in, text out.

All of them end with 0 or say on standard error why not. Nothing is changed before the last
rename; it and its folder are on disk when a script ends.
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
  chown "$uid:$gid" -- "$t" || die "$p belongs to $uid:$gid, which cannot be kept; not changed"
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
        own = f'chown {shlex.quote(spec)} -- "$t" || die "the owner of $p cannot be set"\n'
    chosen = f"{mode:o}" if mode is not None else ""
    return _head(path) + _PLACE + f"""\
mode=644 uid= gid=
if [ -f "$p" ] && [ ! -L "$p" ]; then
  read -r mode uid gid <<EOF
$(stat -c '%a %u %g' -- "$p")
