# The runner: what Runbook starts on a host, once for each channel.
#
# It reads requests from standard input, one a line, words separated by one space; a word that
# begins with "=" is text in the escapes of printf's %b. It answers on standard output with
#     NONCE STATUS WORD OUTLEN ERRLEN
# and as many raw bytes. What comes before a nonce is noise and is skipped by the reader.
#
# A redirection that fails ends a shell at a special built-in (":", "exec") and at no other, so
# files are tried with "true" first.
#
# POSIX sh (dash, bash, busybox ash) with mkdir, mv, rm, cat, head, tail, stat, sync, sleep,
# timeout, setsid and flock. Everything here is a function definition: only a last line, which
# the client adds, starts it, so half of a program does nothing. Groups are signalled in the one
# form that all three shells know, `kill -SIGNAL -GROUP`.
#
# A job lives in its own folder of the spool:
#     lock      held (flock) by the supervisor for the life of the job
#     cmd       the script
#     started   boot, hash of the action; on disk before the script begins
#     exit.RC   "started", renamed when the script has ended
#     pgid out err timedout
#
# The client adds r_as_words (as_words.sh) and r_texts, which sets R_SUPERVISOR (supervisor.sh) and
# R_INNER (other_user.sh): programs for other shells, data here.

# Identity of this boot. The start of process 1 is part of it, so a restarted container counts.
r_boot() {
  R_BOOT=unknown
  read -r R_BOOT </proc/sys/kernel/random/boot_id
  if read -r r_line </proc/1/stat; then
    r_line=${r_line##*') '}
    set -f; set -- $r_line; set +f
    R_BOOT=$R_BOOT.${20}
  fi
}

r_reply() { printf '%s %s %s 0 0\n' "$R_NONCE" "$1" "${2:--}"; }

# Lengths are in bytes, whatever the locale of the login.
r_error() { printf '%s error - 0 %s\n%s' "$R_NONCE" "$(LC_ALL=C; echo "${#1}")" "$1"; }

# Sets R_V to the text of a word.
r_text() {
  R_V=${1#=}
  case $R_V in *\\*) R_V=$(printf '%b.' "$R_V"); R_V=${R_V%.} ;; esac
}

# What is on record in folder $1: R_STATE none, started or exit; R_RC, R_WHERE (boot), R_HASH.
# Twice over exit.*, as "started" may be renamed in between.
r_record() {
  R_STATE=none R_RC= R_WHERE= R_HASH=
  r_exit "$1" && return
  if [ -f "$1/started" ] && { read -r R_WHERE R_HASH <"$1/started"; } 2>/dev/null; then
    R_STATE=started
    return
  fi
  r_exit "$1" || :
}

r_exit() {
  for r_file in "$1"/exit.*; do
    [ -f "$r_file" ] || continue
    R_STATE=exit R_RC=${r_file##*.}
    read -r R_WHERE R_HASH <"$r_file"
    return 0
  done
  return 1
}

# Uploads for job $1 are of no more use once it has ended.
r_sweep() {
  for r_file in "$R_ROOT/up/$1^"*; do
    [ -e "$r_file" ] && rm -f "$r_file"
  done
}

# Words for lost jobs: the supervisor is gone and left no exit code. $1 folder, $2 job.
r_fate() {
  r_sweep "$2"
  if [ "$R_WHERE" != "$R_BOOT" ]; then R_FATE=lost_reboot; return; fi
  R_FATE=lost r_group=
  { read -r r_group <"$1/pgid"; } 2>/dev/null || return 0
  r_lives "$r_group" && R_FATE=orphan
}

# Whether group $1 has a process that is not a zombie: a process 1 that does not reap leaves some.
r_lives() {
  for r_file in /proc/[0-9]*/stat; do
    { read -r r_line <"$r_file"; } 2>/dev/null || continue
    set -f; set -- "$1" ${r_line##*') '}; set +f
    [ "$4" = "$1" ] && [ "$2" != Z ] && return 0
  done
  return 1
}

# Take the lock of folder $1 together with other readers, for $2 seconds at most.
r_shared() {
  exec 8<"$1/lock"
  if [ "$2" = 0 ]; then flock -s -n 8
  elif [ "$R_FLOCK_WAITS" ]; then flock -s -w "$2" 8
  else timeout "$2" flock -s 8
  fi
}

# Answer with status $1, word $2 and output of folder $3 from offsets $4 and $5, $6 at most.
r_output() {
  r_out=0 r_err=0
  if [ -s "$3/out" ] || [ -s "$3/err" ]; then
    r_sizes=$(stat -c %s "$3/out" "$3/err" 2>/dev/null)
    set -- "$@" $r_sizes
    r_out=$((${7:-0} - $4)) r_err=$((${8:-0} - $5))
    [ "$r_out" -lt 0 ] && r_out=0
    [ "$r_err" -lt 0 ] && r_err=0
    [ "$r_out" -gt "$6" ] && r_out=$6
    [ "$r_err" -gt "$6" ] && r_err=$6
  fi
  printf '%s %s %s %s %s\n' "$R_NONCE" "$1" "${2:--}" "$r_out" "$r_err"
  [ "$r_out" = 0 ] || r_part "$3/out" "$4" "$r_out"
  [ "$r_err" = 0 ] || r_part "$3/err" "$5" "$r_err"
}

r_part() {
  if [ "$2" = 0 ]; then head -c "$3" "$1"
  else tail -c "+$(($2 + 1))" "$1" | head -c "$3"
  fi
}

# The state of job $1 with hash $2 after waiting $3 seconds; $4 $5 offsets, $6 most.
# Returns 1, without an answer, when the job never began.
r_await() {
  r_dir=$R_ROOT/$1
  if ! [ -f "$r_dir/lock" ]; then return 1; fi
  if r_shared "$r_dir" "$3"; then r_free=1; else r_free=; fi
  r_record "$r_dir"
  exec 8<&-
  if [ "$R_HASH" ] && [ "$R_HASH" != "$2" ]; then r_reply conflict; return 0; fi
  if [ "$R_STATE" = exit ]; then
    r_sweep "$1"
    r_word=$R_RC
    [ -e "$r_dir/timedout" ] && r_word=$R_RC.timedout
    r_output exit "$r_word" "$r_dir" "$4" "$5" "$6"
  elif ! [ "$r_free" ]; then r_output running - "$r_dir" "$4" "$5" "$6"
  elif [ "$R_STATE" = started ]; then
    r_fate "$r_dir" "$1"
    r_output "$R_FATE" - "$r_dir" "$4" "$5" "$6"
  else return 1
  fi
}

# R_EPOCH: the highest epoch this run has seen on this host.
r_epoch() {
  R_EPOCH=0
  { read -r R_EPOCH <"$R_ROOT/epoch"; } 2>/dev/null || R_EPOCH=0
}

r_fence() {
  { true >>"$R_ROOT/fence.lock"; } 2>/dev/null || { r_error "the spool cannot be written"; return; }
  exec 7>>"$R_ROOT/fence.lock"
  flock 7
  r_epoch
  if [ "$1" -gt "$R_EPOCH" ]; then
    printf '%s\n' "$1" >"$R_ROOT/epoch.tmp" && sync "$R_ROOT/epoch.tmp" &&
      mv -f "$R_ROOT/epoch.tmp" "$R_ROOT/epoch" && R_EPOCH=$1
  fi
  exec 7>&-
  r_reply ok "$R_EPOCH"
}

# How to become user $1; $2 is 1 where a password is at hand. R_MODE: empty for "as we are".
r_mode() {
  R_MODE=
  [ -z "$1" ] || [ "$1" = "$R_USER" ] && return
  if ! command -v sudo >/dev/null; then R_MODE=r; return; fi
  R_MODE=n
  [ "$2" ] || return 0
  case $R_NO_PASSWORD in *" $1 "*) return ;; esac
  # -k: a cached password must not count, it would run out.
  if sudo -k -n -u "$1" -- true </dev/null >/dev/null 2>&1; then
    R_NO_PASSWORD="$R_NO_PASSWORD$1 "
  else R_MODE=p
  fi
}

# launch JOB EPOCH MARKER HASH WAIT OUT ERR MOST LIMIT =USER =CWD =INPUT =PASSWORD =EXPORTS =SCRIPT
r_launch() {
  r_job=$1 r_epoch_wanted=$2 r_hash=$4 r_dir=$R_ROOT/$1
  r_marker=
  { read -r r_marker <"$R_ROOT/marker"; } 2>/dev/null
  if [ "$3" != "$r_marker" ]; then r_reply marker "${r_marker:-none}"; return; fi
  r_text "${12}"; r_input=$R_V
  r_tries=0
  while :; do
    r_epoch
    if [ "$r_epoch_wanted" -lt "$R_EPOCH" ]; then r_reply fenced "$R_EPOCH"; return; fi
    [ -d "$r_dir" ] || mkdir -p "$r_dir" 2>/dev/null
    if ! { true >>"$r_dir/lock"; } 2>/dev/null; then
      r_error "the spool $r_dir cannot be written"
      return
    fi
    exec 9>>"$r_dir/lock"
    if flock -n 9; then
      r_record "$r_dir"
      r_epoch
      if [ "$R_STATE" != none ]; then :
      elif [ "$r_epoch_wanted" -lt "$R_EPOCH" ]; then
        exec 9>&-
        r_reply fenced "$R_EPOCH"
        return
      elif [ "$r_input" ] && ! [ -r "$r_input" ]; then
        exec 9>&-
        r_reply no_input
        return
      elif [ "$r_tries" = 2 ]; then
        exec 9>&-
        r_error "the job cannot be put on record in $r_dir (is the disk full?)"
        return
      else
        r_tries=$((r_tries + 1))
        r_start "$@"
      fi
    fi
    exec 9>&-
    r_await "$1" "$4" "$5" "$6" "$7" "$8" && return
  done
}

# Starts the supervisor, which inherits the lock on descriptor 9. Arguments as of r_launch.
r_start() {
  r_text "${10}"; r_user=$R_V
  r_text "${11}"; r_cwd=$R_V
  r_text "${13}"; r_password=$R_V
  r_mode "$r_user" "${r_password:+1}"
  if [ "$R_MODE" ]; then r_script=${15#=}; else r_user= r_script= r_password=; fi
  { printf '%b' "${15#=}" >"$r_dir/cmd"; } 2>/dev/null || return 0
  r_exports=${14#=}
  set -- "$r_dir" "$r_hash" "$R_BOOT" "$R_UMASK" "$9" "$r_user" "$R_MODE" "$r_cwd" \
    "$r_input" "$R_SH" "$R_ROOT" "$R_SETSID" "$R_INNER"
  if [ "$r_exports$r_user" ]; then
    printf '%s\n' "$r_password" "$r_exports" "$r_script" |
      "$R_SETSID" $R_SH "$R_ROOT/tmp/$R_NONCE/job" "$@" >/dev/null 2>&1 &
  else
    "$R_SETSID" $R_SH "$R_ROOT/tmp/$R_NONCE/job" "$@" </dev/null >/dev/null 2>&1 &
  fi
  r_password= r_script=
}

# plain LIMIT MOST =USER =CWD =PASSWORD =EXPORTS =SCRIPT: a query; nothing of it is kept.
r_plain() {
  r_text "$3"; r_user=$R_V
  r_text "$4"; r_cwd=$R_V
  r_text "$5"; r_password=$R_V
  r_mode "$r_user" "${r_password:+1}"
  r_dir=$R_ROOT/tmp/$R_NONCE
  if [ "$R_MODE" ]; then
    r_as_words "$R_MODE"
    IFS= read -r r_mark </proc/sys/kernel/random/uuid
    {
      [ "$R_MODE" = p ] && printf '%s\n' "$r_password"
      printf '%s\n%s%s\n' "$r_mark" "${6#=}" "${7#=}"
    } 2>/dev/null | (
      umask "$R_UMASK"
      exec $R_AS "$r_user" -- timeout -k 2 "$1" /bin/sh -c "$R_INNER" runbook "$r_mark" "" "$r_cwd"
    ) >"$r_dir/out" 2>"$r_dir/err"
    r_rc=$?
    r_password=
  else
    printf '%b' "${7#=}" >"$r_dir/cmd"
    (
      umask "$R_UMASK"
      cd -- "${r_cwd:-${HOME:-/}}" || exit 125
      if [ "$6" != = ]; then r_text "$6"; eval "$R_V"; fi
      exec "$R_TIMEOUT" -k 2 "$1" $R_SH "$r_dir/cmd"
    ) </dev/null >"$r_dir/out" 2>"$r_dir/err"
    r_rc=$?
  fi
  r_output done "$r_rc" "$r_dir" 0 0 "$2"
  true >"$r_dir/out"
  true >"$r_dir/err"
}

# Signal $1 to the job's group and to all of R_TREE, which may have left the group.
r_signal() {
  kill "-$1" "-$r_group"
  kill "-$1" $R_TREE
  [ "$R_MODE" ] || return 0
  r_as_words "$R_MODE"
  { [ "$R_MODE" = p ] && printf '%s\n' "$r_password"; } |
    $R_AS "$r_user" -- /bin/sh -c 'kill "-$0" "$@"' "$1" $R_TREE
}

# R_TREE: process $1 and its descendants.
r_tree() {
  R_TREE=" $1 " r_grown=1
  while [ "$r_grown" ]; do
    r_grown=
    for r_file in /proc/[0-9]*/stat; do
      { read -r r_line <"$r_file"; } 2>/dev/null || continue
      r_pid=${r_line%% *}
      set -f; set -- ${r_line##*') '}; set +f
      case $R_TREE in
        *" $r_pid "*) ;;
        *" $2 "*) R_TREE="$R_TREE$r_pid " r_grown=1 ;;
      esac
    done
  done
}

# kill JOB HASH =USER =PASSWORD: TERM, and KILL after five seconds.
r_kill() {
  r_dir=$R_ROOT/$1 r_group=
  r_tries=5
  while ! { read -r r_group <"$r_dir/pgid"; } 2>/dev/null; do
    # Its supervisor may be about to start it.
    r_tries=$((r_tries - 1))
    if [ "$r_tries" = 0 ] || ! [ -f "$r_dir/lock" ] || r_shared "$r_dir" 1; then break; fi
  done
  exec 8<&-
  if ! [ "$r_group" ]; then r_reply not_started; return; fi
  r_text "$3"; r_user=$R_V
  r_text "$4"; r_password=$R_V
  r_mode "$r_user" "${r_password:+1}"
  if ! r_shared "$r_dir" 0; then
    r_tree "$r_group"
    r_signal TERM
    exec 8<&-
    r_shared "$r_dir" 5 || r_signal KILL
  fi
  exec 8<&-
  r_password=
  r_await "$1" "$2" 5 0 0 0 || r_reply not_started
}

# forget JOB: for jobs that may be repeated; refused while one runs.
r_forget() {
  if [ -d "$R_ROOT/$1" ]; then
    exec 9>>"$R_ROOT/$1/lock"
    if ! flock -n 9; then exec 9>&-; r_reply busy; return; fi
    rm -rf "$R_ROOT/$1"
    exec 9>&-
  fi
  r_reply ok
}

# tidy: the whole spool of the run; refused while a job runs.
r_tidy() {
  for r_file in "$R_ROOT"/*/lock; do
    [ -f "$r_file" ] || continue
    exec 9>>"$r_file"
    if ! flock -n 9; then exec 9>&-; r_reply busy; return; fi
    exec 9>&-
  done
  rm -rf "$R_ROOT"
  r_reply ok
}

# prune: outputs and commands of ended jobs; what a repeated launch and an undo need stays.
r_prune() {
  for r_file in "$R_ROOT"/*/exit.*; do
    [ -f "$r_file" ] || continue
    r_job=${r_file%/*}
    rm -f "$r_job/out" "$r_job/err" "$r_job/cmd"
  done
  r_reply ok
}

r_hello() {
  mkdir -p "$R_ROOT/up" "$R_ROOT/tmp/$R_NONCE" || { r_error "$R_ROOT cannot be made"; return 1; }
  if ! [ -f "$R_ROOT/marker" ]; then
    read -r r_line </proc/sys/kernel/random/uuid
    printf '%s\n' "$r_line" >"$R_ROOT/marker.$R_NONCE" && sync "$R_ROOT/marker.$R_NONCE" &&
      ln "$R_ROOT/marker.$R_NONCE" "$R_ROOT/marker"
    rm -f "$R_ROOT/marker.$R_NONCE"
    sync "$R_ROOT"
  fi
  read -r r_marker <"$R_ROOT/marker" || { r_error "$R_ROOT cannot be written"; return 1; }
  printf '%s' "$R_SUPERVISOR" >"$R_ROOT/tmp/$R_NONCE/job"
  R_USER=$(id -un)
  r_missing=
  for r_file in flock setsid timeout stat sync head tail id ln; do
    command -v "$r_file" >/dev/null || r_missing="$r_missing $r_file"
  done
  R_SETSID=$(command -v setsid)
  R_TIMEOUT=$(command -v timeout)
  R_FLOCK_WAITS=
  flock --version >/dev/null && R_FLOCK_WAITS=1
  r_epoch
  r_line="marker=$r_marker
root=$R_ROOT
boot=$R_BOOT
user=$R_USER
epoch=$R_EPOCH
missing=${r_missing# }
uname=$(uname -a)
"
  printf '%s hello - %s 0\n%s' "$R_NONCE" "$(LC_ALL=C; echo "${#r_line}")" "$r_line"
}

# NONCE, folder of all spools or "" for the default, name of this run's spool, shell of the jobs,
# and a dot: a shell runs a last line that was cut, too.
r_main() {
  [ "$5" = . ] || return
  exec 2>/dev/null
  R_NONCE=$1 R_SH=$4 R_NO_PASSWORD=' '
  R_UMASK=$(umask)
  umask 077
  R_ROOT=${2:-$HOME/.runbook}/$3
  r_texts
  r_boot
  r_hello || return
  while IFS= read -r r_request; do
    [ "$r_request" ] || continue
    set -f; set -- $r_request; set +f
    r_verb=$1
    shift
    case $r_verb in
      plain) r_plain "$@" ;;
      launch) r_launch "$@" ;;
      wait) r_await "$@" || r_reply not_started ;;
      kill) r_kill "$@" ;;
      fence) r_fence "$1" ;;
      forget) r_forget "$1" ;;
      prune) r_prune ;;
      tidy) r_tidy ;;
      *) r_error "unknown request" ;;
    esac
  done
  rm -rf "$R_ROOT/tmp/$R_NONCE"
}
