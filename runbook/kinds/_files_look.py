"""POSIX-sh texts that look at two trees of files and change nothing. Pure."""

from __future__ import annotations

from runbook.kinds._files_ends import CHANGES, Ends, entries, mine, places, top_of
from runbook.kinds._rsync import ENTRY, NAME, SAMPLE, at, awk, listing

CHANGED = 20
"""Paths changed by others that are listed by name."""

# Times of folders alone do not count: every program that makes a file changes them.
_COUNT = (
    "/^=exit /{rc=$2;next} " + ENTRY + "$1~/^\\.d\\.\\.t\\.+$/{next} "
    "{n++;if($1~/^[<>]f/){files++;bytes+=$2} if(n<=" + str(SAMPLE) + '){i=$1;' + NAME
    + ';print "=differs",i,$0}} '
    'END{printf "=total %d %d %.0f %d\\n",n,files,bytes,rc}'
)

_MEASURE = (
    '/^=exit /{rc=$2;next} {n++;if($1!="d")b+=$5;print} '
    'END{printf "=size %d %.0f %d\\n",n,b,rc | "cat 1>&2"}'
)


def look(ends: Ends, *, carry: bool, tree: bool, top: bool) -> str:
    """Lines that say what differs (``=differs CHANGE NAME``, at most 50, and ``=total COUNT FILES
    BYTES EXIT``), what passes there were (``=pass FILES BYTES SENT SECONDS EXIT``), and, with
    ``tree``, how the destination stands: ``=tree missing``, ``=tree kept`` once it has had a pass,
    else ``=size ENTRIES BYTES EXIT`` and ``=digest SHA256``; ``=unfinished`` where a pass was cut
    short. With ``carry``, ``=source noted`` says that the last pass can be carried back from; with
    ``top``, ``=source empty`` that nothing is in it. Reads only."""
    noted = f"[ ! -e {mine(ends.key)}/source ] || echo '=source noted'\n" if carry else ""
    standing = ""
    if tree:
        standing = (
            f"( tree=$({at(ends.remote, _tree(ends))}) && "
            "printf '%s\\n' \"$tree\" ) &\n"
        )
    # Where all would be deleted and nothing comes; asked only then, as it takes a login.
    empty = f"""\
case $differ in
  *'=differs '[\\<\\>ch]*) ;;
  *'=differs *deleting'*) [ "$({top_of(ends)})" != '=exit 0' ] || echo '=source empty' ;;
esac
""" if top else ""
    return f"""\
{noted}{standing}differ=$({listing(ends.arguments)} | {awk(_COUNT)})
wait
{empty}printf '%s\\n' "$differ"
"""


def changed(ends: Ends) -> str:
    """A line for each of what others did in the destination since the last pass, ``new: NAME``,
    ``altered: NAME``, ``gone: NAME``, at most 20 and one that counts the rest. None where a later
    step has brought the destination further: it is that one's to tell. Reads only."""
    script = f"""\
{places(ends)}
[ -d "$dest" ] && [ -e "$saved/after" ] || exit 0
mine=$(cat "$saved/order") || exit 73
for other in "${{saved%/*}}"/*/order; do
  if cmp -s "${{other%order}}where" "$saved/where" && [ "$(cat "$other")" -gt "$mine" ]; then exit 0
  fi
done
{entries(ends)} | {awk(CHANGES, "-v", f"m={CHANGED}")} "$saved/after" - | sed 's/^=changed //'
"""
    return at(ends.remote, script)


def _tree(ends: Ends) -> str:
    return f"""\
{places(ends)}
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
  {{ {entries(ends)} | {awk(_MEASURE)} 2>&3 | sha256sum | sed 's/^/=digest /'; }} 3>&1
fi
"""
