"""The POSIX-sh text of ``files.compare``. Pure.

The source's files are listed once and cut into chunks; of each chunk both sides read every byte
(``rsync --dry-run --checksum``), two chunks at a time, so that one side reads while the other is
waited for. A last dry run over the whole trees sees what checksums do not: names, owners, modes,
links, attributes. A chunk that is done is marked, and an interrupted comparison goes on after it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runbook.kinds._rsync import DECODE, ENTRY, HUMAN, LIST, NAME, SAMPLE, SPOOL, awk, rsync

_CUT = DECODE + ENTRY + """
$1 ~ /^.f/ || $1 ~ /^hf/ {
  l = $2; @NAME@
  if (bytes > 0 && bytes + l > most || count >= 10000) {
    print n, count, bytes; close("chunk." n); n++; bytes = count = 0
  }
  print name($0) >("chunk." n); bytes += l; count++
}
END {if (count) print n, count, bytes; exit bad ? 65 : 0}
""".replace("@NAME@", NAME)

_WHAT = """
function what(f,  o) {
  if (f ~ /^\\*/) return "only in the destination"
  if (f ~ /\\+\\+\\+$/ && f !~ /^h/) return "missing"
  if (f ~ /^h/) return "hard link"
  if (substr(f, 2, 1) == "L" && f ~ /^c/) o = o ", target"
  else if (substr(f, 3, 1) == "c") o = o ", content"
  if (substr(f, 4, 1) == "s") o = o ", size"
  if (tolower(substr(f, 5, 1)) == "t") o = o ", time"
  if (substr(f, 6, 1) == "p") o = o ", mode"
  if (substr(f, 7, 1) == "o") o = o ", owner"
  if (substr(f, 8, 1) == "g") o = o ", group"
  if (substr(f, 9, 1) ~ /[ubn]/) o = o ", access time"
  if (substr(f, 10, 1) == "a") o = o ", ACL"
  if (substr(f, 11, 1) == "x") o = o ", attributes"
  return substr(o, 3)
}
"""
# The whole trees come first and the chunks then, so a file that differs in both is told once.
_JUDGE = _WHAT + ENTRY + (
    "$1~/^\\.d\\.\\.t\\.+$/{next} "
    "{w=what($1);" + NAME + ";if(FILENAME~/differ/&&w!~/content/)next;"
    "if($0 in said){if(FILENAME~/differ/&&said[$0]!~/content|missing/)"
    '{said[$0]="content, " said[$0]};next}'
    "said[$0]=w;order[++n]=$0} "
    'END{printf "=count %d\\n",n;for(i=1;i<=n&&i<=' + str(SAMPLE) + ";i++)"
    'printf "=differs %s: %s\\n",order[i],said[order[i]]}'
)
_TELL = HUMAN + (
    'BEGIN{printf "%d %% compared: %s of %s, %s/s",done*100/(total>0?total:1),human(done),'
    "human(total),human(done/(took>0?took:1));"
    'if(total>done&&took>0&&done>0)printf ", about %d s left",(total-done)*took/done+.5;print ""}'
)


def compare(
    *, key: str, listed: Sequence[str], chunk: Sequence[str], whole: Sequence[str],
    megabytes: int, rate: float,
) -> str:
    """Compares, and leaves in ``result`` of the step's folder ``=compared FILES BYTES SECONDS``,
    ``=count NUMBER`` and at most 50 times ``=differs NAME: WHAT``.

    ``listed``, ``chunk`` and ``whole`` are rsync's arguments for the list of the source, for one
    chunk (its names come in ``names0.NUMBER``) and for the whole trees. ``rate``: bytes a second
    that each side reads at most; 0: as fast as it can. Exit statuses: 73 this machine has no room,
    65 a name that cannot be told, else rsync's; then nothing was decided.
    """
    most = megabytes * 1_000_000
    one_chunk = (
        f"{rsync([*chunk[:-3], *LIST, '--dry-run', '--checksum', '--from0'])} "
        f'--files-from="names0.$1" {shlex.join(chunk[-3:])}'
    )
    return f"""\
mine={folder(key)}
(umask 077 && mkdir -p "$mine") && cd "$mine" || exit 73
rm -f result
fail() {{
  wait
  grep . "$2" | head -n 20 >&2
  echo "rsync ended with status $1; nothing was decided. What was compared is not read again by" \
    "another try" >&2
  exit "$1"
}}
if ! [ -e chunks ]; then
  rm -f ./*
  {rsync([*listed[:-3], *LIST, *listed[-3:]])} >list 2>said
  rc=$?
  case $rc in 0 | 24) ;; *) fail "$rc" said ;; esac
  if ! {awk(_CUT, "-v", f"most={most}", "-v", "n=1")} list >chunks.new; then
    echo 'names with the characters 0, 1 or 2 cannot be told here, or there is no room' >&2
    exit 65
  fi
  rm -f list
  sync
  mv chunks.new chunks || exit 73
fi
total=$(awk '{{b += $3}} END {{printf "%.0f", b}}' chunks)
files=$(awk '{{f += $2}} END {{printf "%d", f}}' chunks)
one() {{
  tr '\\n\\002' '\\000\\n' <"chunk.$1" >"names0.$1" || return 73
  {one_chunk} >"found.$1" 2>"said.$1"
  rc=$?
  # 24: gone meanwhile; the whole trees show it.
  case $rc in 0 | 24) ;; *) return "$rc" ;; esac
  rm -f "names0.$1"
  mv "found.$1" "differ.$1" || return 73
}}
begin=$(date +%s)
{{ [ -e began ] || echo "$begin" >began; }} || exit 73
rate={rate:.0f}
done=0
taken=0
told=-1
before=
settle() {{
  [ -n "$before" ] || return 0
  wait "$before"
  rc=$?
  before=
  [ "$rc" = 0 ] || fail "$rc" "said.$number"
  done=$((done + bytes_before))
  taken=$((taken + bytes_before))
  took=$(($(date +%s) - begin))
  percent=$((total > 0 ? done * 100 / total : 100))
  if [ "$percent" != "$told" ]; then
    told=$percent
    {awk(_TELL, "-v", "done=$done", "-v", "total=$total", "-v", "took=$took")} </dev/null
  fi
  pause=$((rate > 0 ? taken / rate - took : 0))
  if [ "$pause" -gt 0 ]; then sleep "$pause"; fi
}}
while read -r n count bytes; do
  if [ -e "differ.$n" ]; then
    done=$((done + bytes))
    continue
  fi
  {'settle' if rate else ':'}
  one "$n" &
  now=$!
  {':' if rate else 'settle'}
  before=$now
  number=$n
  bytes_before=$bytes
done <chunks
settle
{rsync([*whole[:-3], *LIST, "--dry-run", *whole[-3:]])} >whole 2>said
rc=$?
case $rc in 0 | 24) ;; *) fail "$rc" said ;; esac
{{
  echo "=compared $files $total $(($(date +%s) - $(cat began)))"
  find . -name 'differ.*' -size +0 >some
  {awk(_JUDGE)} whole $(cat some)
}} >result.new && sync && mv result.new result || exit 73
find . -type f ! -name result -exec rm -f {{}} +
sed -n 's/^=differs //p' result
echo "$files files, $({awk(HUMAN + 'BEGIN{print human(x)}', "-v", "x=$total")} </dev/null)" \
  "compared: $(sed -n 's/^=count //p' result) differences"
"""


def look(key: str) -> str:
    """The result that was left, or nothing."""
    return f"cat {folder(key)}/result 2>/dev/null || :"


def folder(key: str) -> str:
    return f'"$HOME"/{SPOOL}files-compare/{shlex.quote(key)}'



