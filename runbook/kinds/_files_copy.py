"""POSIX-sh texts that copy a tree of files and keep what was there. Pure.

What an undo needs is taken before a pass, from the list of a dry run (rsync(1), ``--dry-run``):
paths that do not exist yet are *created*; of folders, and of files that are only retouched, a copy
is kept. Files that are replaced or deleted are moved aside by the pass itself (``--backup-dir``),
which costs nothing on the same file system. rsync's backup alone would not do: it keeps neither
changed permissions and times nor the attributes of deleted folders.

Two texts run where the destination is: *keep*, which reads the list, and *note*, which reads what
the pass really did. For a destination on another host they are sent there by the remote shell.
Every pass has its own numbered folder; :mod:`runbook.kinds._files_back` goes back through them, the
newest first.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runbook.kinds._files_ends import (
    ANYTHING,
    NAMES,
    NEW,
    READ_NAME,
    Ends,
    entries,
    entries_of,
    mine,
    names_now,
    places,
)
from runbook.kinds._rsync import (
    DECODE,
    ENTRY,
    HUMAN,
    LIST,
    NAME,
    SPOOL,
    SUM,
    at,
    awk,
    listing,
    rsync,
)

_MOVED = DECODE + ENTRY + (
    '$1!="*deleting"&&$1!~/^[<>]f/&&$1!~/^cL/{next} {' + NAME + ";print name($0)}"
)

_WITH_PARENTS = (
    "{print;p=$0;while(sub(/\\/[^\\/]*$/,\"\",p))if(!(p in seen)){seen[p]=1;print p}} "
    'END{print "."}'
)

_PROGRESS = HUMAN + """
$1 ~ /^[0-9]+$/ && $2 ~ /^[0-9]+%$/ {b = $1}
END {
  if (b == "") exit
  rate = b / (took > 0 ? took : 1)
  printf "%d pass %d: %s of %s (%d %%), %s/s", b * 100 / (total > 0 ? total : 1), pass, human(b),
    human(total), b * 100 / (total > 0 ? total : 1), human(rate)
  if (rate > 0 && total > b) printf ", about %d s left", (total - b) / rate + 0.5
  print ""
}
"""

_SUMMARY = HUMAN + (
    '{printf "pass %d: %d files, %s (%s over the wire) in %d s\\n",'
    "pass,$1,human($2),human($3),took}"
)

_OUTCOME = """\
if [ "$rc" = 24 ]; then
  echo 'some files vanished from the source during the copy (rsync status 24)' >&2
  rc=0
fi
exit "$rc"
"""


def copy(arguments: Sequence[str]) -> str:
    """A copy that keeps nothing, for a destination that is out of reach."""
    return f"{rsync(arguments)}\nrc=$?\n{_OUTCOME}"


def copy_keeping(
    ends: Ends, *, passes: int, in_place: bool, more: Sequence[str] = (),
    note_source: bool = False,
) -> str:
    """Passes that first keep all that is needed to put the destination back.

    There are at most ``passes``, and no further one once nothing differs. ``more``: options of the
    passes alone. ``note_source``: how the source stands afterwards is noted on this machine, for
    :func:`carry`. Exit statuses beside rsync's own: 65 a name that cannot be kept, 73
    it could not be kept; in both cases that pass copied nothing. 74: copied, but what was done
    could not be noted.
    """
    keep = at(ends.remote, _keep(ends))
    note = at(ends.remote, _note(ends))
    flags, (source, target) = ends.arguments[:-3], ends.arguments[-2:]
    where = "" if in_place else f'"--partial-dir=$dest/{ends.work}/partial" '
    run = (
        f"{rsync([*flags, *more, *LIST, '--info=progress2', '--no-h', '--backup'])} "
        f'"--backup-dir=$keep/old" {where}'
        + shlex.join([*(["--inplace"] if in_place else [f"--temp-dir={ends.work}/temp"]),
                      "--", source, target])
    )
    noted = ""
    if note_source:
        noted = (
            f"mkdir -p {mine(ends.key)} && {entries_of(ends, source)} "
            f">{mine(ends.key)}/source || exit 74\n"
        )
    return f"""\
work=$(mktemp -d) || exit 73
ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 143' TERM
tick() {{
  pause=
  trap 'kill "$pause" 2>/dev/null; exit 0' TERM
  told=-1
  same=0
  while kill -0 $$ 2>/dev/null; do
    sleep 2 >/dev/null 2>&1 &
    pause=$!
    wait "$pause"
    line=$(tail -c 400 "$work/did" | tr '\\r' '\\n' | {awk(
        _PROGRESS, "-v", "total=$total", "-v", "pass=$pass", "-v",
        "took=$(( $(date +%s) - begin ))")})
    same=$((same + 1))
    # A line for each percent, and one a minute: that bounds what a long copy says.
    if [ -n "$line" ] && {{ [ "${{line%% *}}" != "$told" ] || [ "$same" -ge 30 ]; }}; then
      told=${{line%% *}}
      same=0
      printf '%s\\n' "${{line#* }}"
    fi
  done
}}
rm -f {mine(ends.key)}/source
pass=1
while [ "$pass" -le {passes} ]; do
  {listing(ends.arguments)} >"$work/list"
  if [ "$pass" -gt 1 ] && ! {awk(ANYTHING)} "$work/list"; then break; fi
  {keep} <"$work/list" >"$work/places" || exit
  {{ IFS= read -r dest && IFS= read -r keep; }} <"$work/places" || exit 73
  total=$({awk(SUM)} "$work/list" | cut -d ' ' -f 2)
  begin=$(date +%s)
  : >"$work/did"
  tick &
  ticker=$!
  {run} >"$work/did" 2>"$work/said"
  rc=$?
  kill "$ticker" 2>/dev/null
  wait "$ticker"
  ticker=
  took=$(($(date +%s) - begin))
  head -n 200 "$work/said" >&2
  {{ echo "=exit $rc $took"; tr '\\r' '\\n' <"$work/did"; }} >"$work/lines"
  {awk(SUM)} "$work/lines" | {awk(_SUMMARY, "-v", "pass=$pass", "-v", "took=$took")}
  {note} <"$work/lines" || exit 74
  case $rc in
    0 | 24) ;;
    *)
      why=$(grep . "$work/said" | head -n 1)
      echo "rsync ended with status $rc (${{why:-no message}}); what has arrived is kept, and" \
        "another try goes on from there" >&2
      exit "$rc" ;;
  esac
  pass=$((pass + 1))
done
{noted}exit 0
"""


def _keep(ends: Ends) -> str:
    copy_prior = rsync(["-a", *ends.preserve, "--from0"])
    # Should nobody live to note what came during the pass, this tells it.
    before = f'{names_now(ends)} >"$keep/before" || exit 73\n' if ends.live else ""
    return f"""\
{places(ends)}
{READ_NAME}
n=1
while [ -e "$saved/$n" ]; do n=$((n + 1)); done
(umask 077 && mkdir -p "$saved/$n/tree") || exit 73
keep=$(cd "$saved/$n" && pwd -P) || exit 73
rm -f "$saved/after"
cat >"$keep/list" || exit 73
# A list that was cut short must not pass for a whole one.
case $(tail -n 1 "$keep/list") in
  '=exit 0' | '=exit 24') ;;
  '=exit '*) echo 'rsync could not compare; nothing was copied' >&2; exit 73 ;;
  *) echo 'the list of differences is not complete; nothing was copied' >&2; exit 73 ;;
esac
if ! {awk(NAMES)} "$keep/list" >"$keep/listed"; then
  grep '\\\\#00[0-2]' "$keep/list" | head -n 20 >&2
  echo 'such names could not be put back; nothing was copied' >&2
  exit 65
fi
LC_ALL=C sort -u "$keep/listed" >"$keep/names"
{awk(_MOVED)} "$keep/list" | LC_ALL=C sort -u >"$keep/moved"
# In this order a folder is followed by what is in it. What lies behind a symbolic link is not
# the destination's.
link=/
: >"$keep/inside"
{awk(_WITH_PARENTS)} "$keep/names" | tr / '\\001' | LC_ALL=C sort -u | tr '\\001' / |
  while IFS= read -r p; do
    decoded "$p"
    case $name in "$link"/*) continue ;; esac
    if [ -L "$dest/$name" ]; then link=$name; printf '%s\\n' "$p"
    elif [ -d "$dest/$name" ]; then printf '%s\\n' "$p"; printf '%s\\n' "$p" >&4
    elif [ -e "$dest/$name" ]; then printf '%s\\n' "$p"
    fi
  done 4>"$keep/inside" | LC_ALL=C sort >"$keep/prior"
LC_ALL=C comm -23 "$keep/names" "$keep/prior" >"$keep/created"
LC_ALL=C comm -23 "$keep/prior" "$keep/moved" | LC_ALL=C sort -u - "$keep/inside" |
  grep -vx '\\.' | tr '\\n\\002' '\\000\\n' >"$keep/copied0"
if [ -s "$keep/copied0" ]; then
  {copy_prior} --files-from="$keep/copied0" "$dest/" "$keep/tree/" || exit 73
fi
if [ -d "$dest" ]; then
  # In a list, "." would mean all that is in it.
  {rsync(["-a", *ends.preserve, "--exclude=*"])} "$dest/" "$keep/tree/" || exit 73
else
  : >"$keep/made"
  mkdir "$dest" || exit 73
fi
{before}sync
: >"$keep/ready" || exit 73
dest=$(cd "$dest" && pwd -P) || exit 73
(umask 077 && mkdir -p "$dest/{ends.work}/temp" "$dest/{ends.work}/partial") || exit 73
# What a machine that lost its power had received of a file is data as good as any other.
for f in "$dest/{ends.work}/temp"/*.?????? "$dest/{ends.work}/temp"/.[!.]*.??????; do
  [ -f "$f" ] || continue
  p=${{f##*/}}
  mv -f "$f" "$dest/{ends.work}/partial/${{p%.*}}"
done
printf '%s\\n' "$dest" "$keep"
"""


def _note(ends: Ends) -> str:
    """What came to light only during the pass: new files can be removed, replaced ones were moved
    aside by rsync; the rest was not kept."""
    return f"""\
{places(ends)}
{READ_NAME}
n=1
while [ -e "$saved/$((n + 1))" ]; do n=$((n + 1)); done
keep=$(cd "$saved/$n" && pwd -P) || exit 74
read -r _ rc took
# No room (status 11): what has arrived of the file under way is given up, for the way back.
[ "$rc" != 11 ] || rm -rf "$dest/{ends.work}"
cat >"$keep/did" || exit 74
{awk(NEW)} "$keep/did" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$keep/prior" >"$keep/later"
LC_ALL=C sort -u "$keep/later" "$keep/created" >"$keep/new" && mv "$keep/new" "$keep/created" ||
  exit 74
{awk(NAMES)} "$keep/did" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$keep/prior" |
  LC_ALL=C comm -23 - "$keep/created" | while IFS= read -r p; do
    decoded "$p"
    [ -e "$keep/old/$name" ] || [ -L "$keep/old/$name" ] || printf '%s\\n' "$p"
  done >"$keep/unkept"
echo "$({awk(SUM)} "$keep/did") $took $rc" >>"$saved/passes" || exit 74
case $rc in 0 | 24) ;; *) exit 0 ;; esac
touch -r "$dest" "$keep/stamp" && rm -rf "$dest/{ends.work}" || exit 74
rmdir "$dest/{SPOOL}" 2>/dev/null
touch -r "$keep/stamp" "$dest" 2>/dev/null
rm -f "$keep/did" "$keep/list" "$keep/listed" "$keep/later" "$keep/before" "$keep/stamp"
order=0
for other in "${{saved%/*}}"/*/order; do
  [ ! -e "$other" ] || [ "$(cat "$other")" -le "$order" ] || order=$(cat "$other")
done
(cd "$dest" && pwd -P) >"$saved/where" && echo $((order + 1)) >"$saved/order" || exit 74
{entries(ends)} >"$saved/after.new" && mv "$saved/after.new" "$saved/after" || exit 74
"""
