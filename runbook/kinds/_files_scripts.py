"""POSIX-sh texts for trees of files: look, copy keeping what was there, put back, carry. Pure.

They need rsync and nothing that a BusyBox has not. rsync lists, compares and copies, so that names,
owners, links and attributes are judged by the program that keeps them.

What an undo needs is taken before a pass, from the list of a dry run (rsync(1), ``--dry-run``):
paths that do not exist yet are *created*; of folders, and of files that are only retouched, a copy
is kept. Files that are replaced or deleted are moved aside by the pass itself (``--backup-dir``),
which costs nothing on the same file system. rsync's backup alone would not do: it keeps neither
changed permissions and times nor the attributes of deleted folders.

Two texts run where the destination is: *keep*, which reads the list, and *note*, which reads what
the pass really did. For a destination on another host they are sent there by the remote shell.
Every pass has its own numbered folder; undo goes back through them, the newest first.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from runbook.kinds._rsync import (
    DECODE,
    ENTRY,
    HUMAN,
    LIST,
    NAME,
    SAMPLE,
    SPOOL,
    SUM,
    at,
    awk,
    listing,
    rsync,
)

CHANGED = 20
"""Paths changed by others that are listed by name."""

# Permissions, owner, group, length and time of everything. A link that leads elsewhere has another
# time.
_TREE = ("-aHn", "-8", "--out-format=%i %B %U %G %l %M %n")

# Times of folders alone do not count: every program that makes a file changes them.
_COUNT = (
    "/^=exit /{rc=$2;next} " + ENTRY + "$1~/^\\.d\\.\\.t\\.+$/{next} "
    "{n++;if($1~/^[<>]f/){files++;bytes+=$2} if(n<=" + str(SAMPLE) + '){i=$1;' + NAME
    + ';print "=differs",i,$0}} '
    'END{printf "=total %d %d %.0f %d\\n",n,files,bytes,rc}'
)
_NAMES = DECODE + ENTRY + "{" + NAME + ";print name($0)} END{exit bad?65:0}"
_MOVED = DECODE + ENTRY + (
    '$1!="*deleting"&&$1!~/^[<>]f/&&$1!~/^cL/{next} {' + NAME + ";print name($0)}"
)
_NEW = DECODE + ENTRY + "$1!~/\\+\\+\\+$/{next} {" + NAME + ";print name($0)}"
_WITH_PARENTS = (
    "{print;p=$0;while(sub(/\\/[^\\/]*$/,\"\",p))if(!(p in seen)){seen[p]=1;print p}} "
    'END{print "."}'
)
_ANYTHING = ENTRY + "$1~/^\\.d\\.\\.t\\.+$/{next} {n=1} END{exit n?0:1}"

# One line an entry, sorted, without what is no difference: lengths and times of folders.
_ENTRIES = (
    '/^=exit /{print;next} $1!~/^[<>ch.][fdLDS].........$/{next} '
    '{k=substr($1,2,1);if($1~/^h/)k="h";'
    'if(k=="d")sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /,k" "$2" "$3" "$4" - - ");'
    'else sub(/^[^ ]+/,k);print}'
)
_MEASURE = (
    '/^=exit /{rc=$2;next} {n++;if($1!="d")b+=$5;print} '
    'END{printf "=size %d %.0f %d\\n",n,b,rc | "cat 1>&2"}'
)
_CHANGES = """
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
_ADDED = DECODE + """
/^=exit /{next}
{n = $0; for (i = 0; i < 6; i++) sub(/^[^ ]* /, "", n)}
NR == FNR {was[n]; next}
!(n in was) {sub(/\\/$/, "", n); print name(n)}
"""
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
_CARRIED = HUMAN + '{printf "carried back: %d files, %s\\n",$1,human($2)}'


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

_OUTCOME = """\
if [ "$rc" = 24 ]; then
  echo 'some files vanished from the source during the copy (rsync status 24)' >&2
  rc=0
fi
exit "$rc"
"""


def look(ends: Ends, *, carry: bool, tree: bool) -> str:
    """Lines that say what differs (``=differs CHANGE NAME``, at most 50, and ``=total COUNT FILES
    BYTES EXIT``), what passes there were (``=pass FILES BYTES SENT SECONDS EXIT``), and, with
    ``tree``, how the destination stands: ``=tree missing``, ``=tree kept`` once it has had a pass,
    else ``=size ENTRIES BYTES EXIT`` and ``=digest SHA256``; ``=unfinished`` where a pass was cut
    short. With ``carry``, ``=source noted`` says that the last pass can be carried back from.
    Reads only."""
    noted = f"[ ! -e {_mine(ends.key)}/source ] || echo '=source noted'\n" if carry else ""
    standing = ""
    if tree:
        standing = (
            f"( tree=$({at(ends.remote, _tree(ends))}) && "
            "printf '%s\\n' \"$tree\" ) &\n"
        )
    return f"""\
{noted}{standing}differ=$({listing(ends.arguments)} | {awk(_COUNT)})
wait
printf '%s\\n' "$differ"
"""


def changed(ends: Ends) -> str:
    """A line for each of what others did in the destination since the last pass, ``new: NAME``,
    ``altered: NAME``, ``gone: NAME``, at most 20 and one that counts the rest. None where a later
    step has brought the destination further: it is that one's to tell. Reads only."""
    script = f"""\
{_places(ends)}
[ -d "$dest" ] && [ -e "$saved/after" ] || exit 0
mine=$(cat "$saved/order") || exit 73
for other in "${{saved%/*}}"/*/order; do
  if cmp -s "${{other%order}}where" "$saved/where" && [ "$(cat "$other")" -gt "$mine" ]; then exit 0
  fi
done
{_entries(ends)} | {awk(_CHANGES, "-v", f"m={CHANGED}")} "$saved/after" - | sed 's/^=changed //'
"""
    return at(ends.remote, script)


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
            f"mkdir -p {_mine(ends.key)} && {_entries_of(ends, source)} "
            f">{_mine(ends.key)}/source || exit 74\n"
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
rm -f {_mine(ends.key)}/source
pass=1
while [ "$pass" -le {passes} ]; do
  {listing(ends.arguments)} >"$work/list"
  if [ "$pass" -gt 1 ] && ! {awk(_ANYTHING)} "$work/list"; then break; fi
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
{_places(ends)}
{_READ_NAME}
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
  {_entries(ends)} | {awk(_ADDED)} "$saved/after" - | LC_ALL=C sort |
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
      {_names_now(ends)} | LC_ALL=C comm -23 - "$keep/before" |
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
mine={_mine(ends.key)}
[ -e "$mine/source" ] || {{ echo 'nothing to carry back'; exit 0; }}
mine=$(cd "$mine" && pwd -P) || exit 73
if ! [ -e "$mine/aside" ]; then
  if ! {_entries_of(ends, ends.arguments[-2])} >"$mine/now"; then
    echo 'the source cannot be read; nothing was carried' >&2
    exit 73
  fi
  if ! cmp -s "$mine/source" "$mine/now"; then
    changes=$({awk(_CHANGES, "-v", "m=3")} "$mine/source" "$mine/now" |
      sed 's/^=changed //; $!s/$/;/' | tr '\\n' ' ')
    echo "the source has changed, too, since the last pass ($changes): nothing was carried or put" \
      "back. Bring what both sides have together in the source by hand, remove $mine/source, and" \
      "roll back again" >&2
    exit 5
  fi
  {rsync(["--dry-run", *LIST, *ends.arguments])} >"$mine/list" || exit
  if ! {awk(_ANYTHING)} "$mine/list"; then
    echo 'nothing to carry back'
    rm -rf "$mine"
    exit 0
  fi
  {at(remote, f"{here}; mkdir -p {beside}")} || exit
  {rsync([*LIST, *aside])} >"$mine/did" || exit
  {awk(SUM)} "$mine/did" | {awk(_CARRIED)}
  {awk(_NEW)} "$mine/list" | LC_ALL=C sort -ru >"$mine/gone" || exit 73
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
mine={_mine(ends.key)}
[ -e "$mine/source" ] || exit 0
mine=$(cd "$mine" && pwd -P) || exit 73
if {_entries_of(ends, ends.arguments[-2])} >"$mine/now" && cmp -s "$mine/source" "$mine/now"; then
  {rsync(["--dry-run", *LIST, *ends.arguments])} >"$mine/list" || exit
  if {awk(_ANYTHING)} "$mine/list"; then
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


_READ_NAME = """\
decoded() {
  case $1 in
    *"$line_end"*) name=$(printf '%s' "$1" | tr '\\002' '\\n'; echo x); name=${name%x} ;;
    *) name=$1 ;;
  esac
}
line_end=$(printf '\\002')
"""


def _keep(ends: Ends) -> str:
    copy_prior = rsync(["-a", *ends.preserve, "--from0"])
    # Should nobody live to note what came during the pass, this tells it.
    before = f'{_names_now(ends)} >"$keep/before" || exit 73\n' if ends.live else ""
    return f"""\
{_places(ends)}
{_READ_NAME}
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
if ! {awk(_NAMES)} "$keep/list" >"$keep/listed"; then
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
{_places(ends)}
{_READ_NAME}
n=1
while [ -e "$saved/$((n + 1))" ]; do n=$((n + 1)); done
keep=$(cd "$saved/$n" && pwd -P) || exit 74
read -r _ rc took
# No room (status 11): what has arrived of the file under way is given up, for the way back.
[ "$rc" != 11 ] || rm -rf "$dest/{ends.work}"
cat >"$keep/did" || exit 74
{awk(_NEW)} "$keep/did" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$keep/prior" >"$keep/later"
LC_ALL=C sort -u "$keep/later" "$keep/created" >"$keep/new" && mv "$keep/new" "$keep/created" ||
  exit 74
{awk(_NAMES)} "$keep/did" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$keep/prior" |
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
{_entries(ends)} >"$saved/after.new" && mv "$saved/after.new" "$saved/after" || exit 74
"""


def _tree(ends: Ends) -> str:
    return f"""\
{_places(ends)}
if [ -e "$saved/passes" ]; then tail -n {SAMPLE} "$saved/passes" | sed 's/^/=pass /'; fi
# What a pass that was cut short has left is a reason to go back, though all else be as before.
if [ -d "$saved" ]; then
  case $(tail -n 1 "$saved/passes" 2>/dev/null) in
    *' 0' | *' 24') ;;
    *) echo '=unfinished' ;;
  esac
fi
if ! [ -d "$dest" ]; then echo '=tree missing'
elif [ -e "$saved/passes" ]; then echo '=tree kept'
else
  {{ {_entries(ends)} | {awk(_MEASURE)} 2>&3 | sha256sum | sed 's/^/=digest /'; }} 3>&1
fi
"""


def _entries(ends: Ends) -> str:
    """One line each, sorted, of everything in the destination that this step is about."""
    return _entries_of(ends, "$dest/", plain=False)


def _names_now(ends: Ends) -> str:
    """Names of everything in the destination that this step is about, sorted."""
    flags = ["-an", *LIST, *ends.excludes, "--"]
    return (
        f'{rsync(flags)} "$dest/" /nonexistent/{ends.key}/ | {awk(_NAMES)} | LC_ALL=C sort -u'
    )


def _entries_of(ends: Ends, end: str, *, plain: bool = True) -> str:
    rsh = [ends.arguments[n : n + 2] for n, a in enumerate(ends.arguments) if a == "-e"]
    flags = [*_TREE, *ends.excludes, *(rsh[0] if rsh and plain else ()), "--"]
    place = shlex.quote(end) if plain else f'"{end}"'
    return (
        f'{{ {rsync(flags)} {place} /nonexistent/{ends.key}/; echo "=exit $?"; }} | '
        f"{awk(_ENTRIES)} | LC_ALL=C sort"
    )


def _places(ends: Ends) -> str:
    # "./" keeps a relative path that begins with a dash, or holds a colon, from being misread.
    path = ends.destination.rstrip("/") or "/"
    start = path if path.startswith("/") else f"./{path}"
    return f"dest={shlex.quote(start)}\nsaved={ends.saved}"


def _mine(key: str) -> str:
    """A folder of this step on the machine it runs on."""
    return f'"$HOME"/{SPOOL}files-source/{shlex.quote(key)}'


def saved_in(folder: str, key: str) -> str:
    """The shell word for the folder of a step below ``folder`` (empty: that of the login)."""
    base = shlex.quote(folder.rstrip("/")) if folder else f'"$HOME"/{SPOOL}files'
    return f"{base}/{shlex.quote(key)}"
