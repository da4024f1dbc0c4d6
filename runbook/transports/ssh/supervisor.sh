# Runs one job, holding its lock (descriptor 9, inherited) as long as the job lives.
# $1 folder, $2 hash and epoch, $3 boot, $4 umask, $5 seconds or 0, $6 user or "", $7 mode, $8 working
# directory or "", $9 file for standard input or "", ${10} sh, ${11} root of the spool,
# ${12} setsid, ${13} the text of other_user.sh. Standard input: three lines, of the sudo password,
# the exports, and (for another user) the script, the last two escaped as for printf's %b.
trap "" HUP INT QUIT
dir=$1 hash=$2 boot=$3 mask=$4 limit=$5 user=$6 mode=$7 cwd=$8 input=$9
shift 9
sh=$1 root=$2 setsid=$3 inner=$4
set --
IFS= read -r pw; IFS= read -r exports; IFS= read -r script
exec </dev/null
cd -- "$dir" || exit 1
# One process for all that has to be on disk, names included. A record that was cut short counts as
# none, and rightly: nothing begins before this has succeeded. Nor does it where there is no room
# for "pgid", without which the job could not be ended: an empty line until it begins.
{
  printf "%s %s\n" "$boot" "$hash" >started && printf "          \n" >pgid && sync started . ..
} || { rm -f started; exit 1; }
umask "$mask"
if [ "$user" ]; then
  r_as_words "$mode"
  guard=
  if [ "$limit" != 0 ]; then
    guard="timeout -k 5 $limit"
    IFS=. read -r began more </proc/uptime
  fi
  IFS= read -r mark </proc/sys/kernel/random/uuid
  {
    [ "$mode" = p ] && printf "%s\n" "$pw"
    printf "%s\n%s%s\n" "$mark" "$exports" "$script"
    [ "$input" ] && cat -- "$input"
  } 2>/dev/null 9>&- |
    "$setsid" $R_AS "$user" -- $guard /bin/sh -c "$inner" runbook "$mark" "${input:+in}" \
      "$cwd" >out 2>err 9>&- &
  job=$!
  pw= script=
else
  (
    exec 9>&-
    cd -- "${cwd:-${HOME:-/}}" || exit 125
    if [ "$exports" ]; then eval "$(printf "%b" "$exports")"; fi
    exec "$setsid" $sh "$dir/cmd"
  ) <"${input:-/dev/null}" >out 2>err &
  job=$!
fi
exports=
echo "$job" 1<>pgid
watch=
if [ "$limit" != 0 ] && [ -z "$user" ]; then
  (
    exec 9>&-
    # The trap may run before the nap is known, so "stop" is looked at on both sides of it. KILL,
    # as a TERM is lost on a child that has not yet laid down the traps of its parent.
    nap= stop=
    trap "stop=1; [ -z \"\$nap\" ] || kill -KILL \$nap" TERM
    sleep "$limit" & nap=$!
    [ "$stop" ] && kill -KILL "$nap"
    wait "$nap"
    [ "$stop" ] && exit 0
    kill -0 "$job" 2>/dev/null || exit 0
    : >timedout
    kill -TERM "-$job"
    tries=50
    while [ "$tries" -gt 0 ] && kill -0 "-$job"; do
      tries=$((tries - 1))
      sleep 0.1 || sleep 1
    done
    kill -KILL "-$job"
  ) >/dev/null 2>&1 &
  watch=$!
fi
wait "$job"; rc=$?
# Death by signal N is 256 + N in ksh93, and 128 + N in every other shell.
[ "$rc" -le 255 ] || rc=$((rc - 128))
# A watcher that has begun to kill is let finish: some of the group may linger.
if [ "$watch" ]; then
  [ -e timedout ] || kill "$watch" 2>/dev/null
  wait "$watch"
fi
# What timeout(1) of GNU or BusyBox ends with. A command may end so by itself, or be killed for its
# memory: it is the limit only where the time was up.
if [ "$user" ] && [ "$limit" != 0 ]; then
  case $rc in
    124|137|143)
      IFS=. read -r ended more </proc/uptime
      [ $((ended - began)) -lt "$limit" ] || : >timedout
      ;;
  esac
fi
[ -e timedout ] && rc=124
case $input in "$root"/up/*) rm -f -- "$input" ;; esac
exec mv -f started "exit.$rc"
