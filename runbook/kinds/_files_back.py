"""POSIX-sh texts that put a tree of files back as it was, or carry what is new back first. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runbook.kinds._files_ends import (
    ANYTHING,
    CHANGES,
    NEW,
    READ_NAME,
    Ends,
    entries,
    entries_of,
    mine,
    names_now,
    places,
)
from runbook.kinds._rsync import DECODE, HUMAN, LIST, SPOOL, SUM, at, awk, rsync

_ADDED = DECODE + """
/^=exit /{next}
{n = $0; for (i = 0; i < 6; i++) sub(/^[^ ]* /, "", n)}
NR == FNR {was[n]; next}
!(n in was) {sub(/\\/$/, "", n); print name(n)}
"""

_CARRIED = HUMAN + '{printf "carried back: %d files, %s\\n",$1,human($2)}'


def put_back(ends: Ends) -> str:
    """Removes what was created and puts back what was kept. May be repeated.

    Exit status 3: some paths changed during a pass and were not kept; they are listed.
    """
    preserve = list(ends.preserve)
    from_old = rsync(["-aO", *preserve])
    from_tree = rsync(["-aI", *preserve, "--from0"])
    clear = (
        'cd "$1" || exit 73; shift; rm -f -- "$@" 2>/dev/null; '
        'for p; do if [ -d "$p" ] && ! [ -L "$p" ]; then rmdir -- "$p"; fi; done; :'
    )
    return f"""\
{places(ends)}
{READ_NAME}
lost=
n=0
while [ -e "$saved/$((n + 1))" ]; do n=$((n + 1)); done
if [ -d "$dest" ]; then
  dest=$(cd "$dest" && pwd -P) || exit 73
  rm -rf "$dest/{ends.work}" || exit 73
  rmdir "$dest/{SPOOL}" 2>/dev/null
fi
if [ -d "$dest" ] && [ -e "$saved/after" ]; then
  # What others made since is not ours to delete, and was not there before.
  {entries(ends)} | {awk(_ADDED)} "$saved/after" - | LC_ALL=C sort |
    while IFS= read -r p; do
      decoded "$p"
      [ -e "$dest/$name" ] || [ -L "$dest/$name" ] || continue
      case $name in
        */*) (umask 077 && mkdir -p "$saved.given-up/${{name%/*}}") ;;
        *) (umask 077 && mkdir -p "$saved.given-up") ;;
      esac && mv -f "$dest/$name" "$saved.given-up/$name" || exit 73
    done || exit 73
  [ ! -d "$saved.given-up" ] || echo "made here since by others, and now in $saved.given-up"
fi
while [ "$n" -gt 0 ]; do
  keep=$(cd "$saved/$n" && pwd -P) || exit 73
  if [ -e "$keep/ready" ]; then
    if [ -e "$keep/before" ] && ! [ -e "$keep/unkept" ]; then
      {names_now(ends)} | LC_ALL=C comm -23 - "$keep/before" |
        LC_ALL=C sort -u - "$keep/created" >"$keep/new" && mv "$keep/new" "$keep/created" || exit 73
    fi
    while IFS= read -r p; do
      decoded "$p"
      if [ "$p" = . ]; then continue
      elif [ -d "$dest/$name" ] && ! [ -L "$dest/$name" ]; then printf '%s\\n' "$p" >&4
      else printf '%s\\n' "$p"
      fi
    done <"$keep/created" >"$keep/files" 4>"$keep/folders" || exit 73
    if [ -s "$keep/files" ]; then
      tr '\\n\\002' '\\000\\n' <"$keep/files" | (cd "$dest" && xargs -0 rm -f --)
    fi
    if [ -s "$keep/folders" ]; then
      LC_ALL=C sort -r "$keep/folders" | tr '\\n\\002' '\\000\\n' |
        (cd "$dest" && xargs -0 rmdir --)
    fi
    if [ -e "$keep/made" ]; then
      if [ -d "$dest" ]; then rmdir "$dest"; fi
    elif ! [ -d "$dest" ]; then mkdir "$dest" || exit 73
    fi
    if [ -d "$keep/old" ]; then
      (cd "$keep/old" && find . ! -type d -exec sh -c {shlex.quote(clear)} sh "$dest" {{}} +)
      {from_old} "--link-dest=$keep/old" "$keep/old/" "$dest/" || exit
    fi
    if [ -s "$keep/copied0" ]; then
      {from_tree} --files-from="$keep/copied0" "$keep/tree/" "$dest/" || exit
    fi
    if ! [ -e "$keep/made" ]; then
      {rsync(["-a", *preserve, "--exclude=*"])} "$keep/tree/" "$dest/" || exit
    fi
    if [ -s "$keep/unkept" ]; then
      echo 'changed during a pass, so their former state is not known:' >&2
      head -n 20 "$keep/unkept" | tr '\\002' '?' >&2
      lost=1
    fi
  fi
  [ "$lost" ] || rm -rf "$keep"
  n=$((n - 1))
done
[ -z "$lost" ] || exit 3
rm -f "$saved/after" "$saved/passes" "$saved/order" "$saved/where"
rmdir "$saved" "${{saved%/*}}" 2>/dev/null || :
"""


def carry(
    ends: Ends, *, source: str, aside: Sequence[str], remote: Sequence[str] = ()
) -> str:
    """Brings what was changed in the destination since the last pass to the source, and has the
    destination as that pass left it.

    First all that differs is copied beside the source, in its file system (``aside`` are rsync's
    arguments for that; they end in that folder), then the destination is made as the source is,
    and only then is what lies aside put in its place: at every moment all of it is somewhere, and
    it may be repeated from any moment. Nothing is done where no pass was finished, or all has been
    carried already. Exit status 5: the source has changed too, and nothing was carried.
    ``source`` is its path on its own machine, ``remote`` leads there; empty: this one.
    """
    beside = f"{SPOOL}{ends.key}.back"
    here = f"cd {shlex.quote(source if source.startswith('/') else './' + source)} || exit 73"
    flags = ["-aI", "--force", *ends.preserve]
    apply = f"""\
{here}
cat >{beside}.gone || exit 73
tr '\\n\\002' '\\000\\n' <{beside}.gone | xargs -0 sh -c {shlex.quote(
        'for p; do if [ -d "$p" ] && ! [ -L "$p" ]; then rmdir -- "$p"; '
        'else rm -f -- "$p"; fi; done; :')} sh
{rsync([*flags, f"{beside}/", "./"])} && sync
"""
    tidy = f"{here}\nrm -rf {beside} {beside}.gone; rmdir {SPOOL} 2>/dev/null; :\n"
    return f"""\
mine={mine(ends.key)}
[ -e "$mine/source" ] || {{ echo 'nothing to carry back'; exit 0; }}
mine=$(cd "$mine" && pwd -P) || exit 73
if ! [ -e "$mine/aside" ]; then
  if ! {entries_of(ends, ends.arguments[-2])} >"$mine/now"; then
    echo 'the source cannot be read; nothing was carried' >&2
    exit 73
  fi
  if ! cmp -s "$mine/source" "$mine/now"; then
    changes=$({awk(CHANGES, "-v", "m=3")} "$mine/source" "$mine/now" |
      sed 's/^=changed //; $!s/$/;/' | tr '\\n' ' ')
    echo "the source has changed, too, since the last pass ($changes): nothing was carried or put" \
      "back. Bring what both sides have together in the source by hand, remove $mine/source, and" \
      "roll back again" >&2
    exit 5
  fi
  {rsync(["--dry-run", *LIST, *ends.arguments])} >"$mine/list" || exit
  if ! {awk(ANYTHING)} "$mine/list"; then
    echo 'nothing to carry back'
    rm -rf "$mine"
    exit 0
  fi
  {at(remote, f"{here}; mkdir -p {beside}")} || exit
  {rsync([*LIST, *aside])} >"$mine/did" || exit
  {awk(SUM)} "$mine/did" | {awk(_CARRIED)}
  {awk(NEW)} "$mine/list" | LC_ALL=C sort -ru >"$mine/gone" || exit 73
  sync
  : >"$mine/aside" || exit 73
fi
if ! [ -e "$mine/reverted" ]; then
  {rsync(ends.arguments)} || exit
  sync
  : >"$mine/reverted" || exit 73
fi
if ! [ -e "$mine/applied" ]; then
  {at(remote, apply)} <"$mine/gone" || exit
  : >"$mine/applied" || exit 73
fi
{at(remote, tidy)} || exit
rm -rf "$mine"
rmdir "${{mine%/*}}" 2>/dev/null || :
"""


def revert(ends: Ends) -> str:
    """Has the destination as the last pass left it, as long as the source still is: what others
    altered or removed there comes from the source again, and what they wrote is moved aside, on
    the destination's machine. Only :func:`put_back` is left to do where that is not possible."""
    given_up = at(ends.remote, (
        f"(umask 077 && mkdir -p {ends.saved}.given-up) && cd {ends.saved}.given-up && pwd -P"
    ))
    forget = at(ends.remote, f"rmdir {ends.saved}.given-up 2>/dev/null; :")
    flags, last = ends.arguments[:-3], ends.arguments[-3:]
    return f"""\
mine={mine(ends.key)}
[ -e "$mine/source" ] || exit 0
mine=$(cd "$mine" && pwd -P) || exit 73
if {entries_of(ends, ends.arguments[-2])} >"$mine/now" && cmp -s "$mine/source" "$mine/now"; then
  {rsync(["--dry-run", *LIST, *ends.arguments])} >"$mine/list" || exit
  if {awk(ANYTHING)} "$mine/list"; then
    aside=$({given_up}) || exit
    {rsync([*flags, "--backup"])} "--backup-dir=$aside" {shlex.join(last)} || exit
    {forget}
  fi
else
  echo 'the source is not as the last pass left it: what others changed in the destination cannot' \
    'be had from there'
fi
rm -rf "$mine"
rmdir "${{mine%/*}}" 2>/dev/null || :
"""
