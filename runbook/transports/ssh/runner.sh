# The runner: what Runbook starts on a host, once for each channel.
#
# It reads requests from standard input, one a line, words separated by one space; a word that
# begins with "=" is text in the escapes of printf's %b. It answers on standard output with
#     NONCE STATUS WORD OUTLEN ERRLEN
# and as many raw bytes. What comes before a nonce is noise and is skipped by the reader.
#
# A redirection that fails ends a shell at a special built-in (":", "exec") and at no other, so
# files are tried with "true" first. What "exec" opened is passed on by name, as in "9>&9": ksh
# closes it otherwise.
#
# POSIX sh (dash, bash, busybox ash, ksh93, zsh --emulate sh) with mkdir, mv, rm, cat, head, tail,
# stat, sync, sleep, timeout, setsid and flock. Everything here is a function definition: only a
# last line, which the client adds, starts it, so half of a program does nothing. Groups are
# signalled in the one form that all these shells know, `kill -SIGNAL -GROUP`.
#
# A job lives in its own folder of the spool:
#     lock      held (flock) by the supervisor for the life of the job
#     cmd       the script
#     started   one line: boot, hash of the action, epoch; on disk before the script begins
#     exit.RC   "started", renamed when the script has ended
#     pgid      its process group; an empty line as long as it is only about to begin
#     out err timedout
#
# The client adds r_as_words (as_words.sh), r_logind (logind.sh), r_plain (queries.sh), r_kill
# (kill.sh) and r_texts, which sets R_SUPERVISOR (supervisor.sh) and R_INNER (other_user.sh):
# programs for other shells, data here.

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

# Sets R_V to the length of $1 in bytes, whatever the locale of the login: where it may be another
# than in characters, another process counts.
r_bytes() {
  case $1 in
    *[!"$R_PLAIN"]*) R_V=$(LC_ALL=C; echo "${#1}") ;;
    *) R_V=${#1} ;;
  esac
}

r_error() {
  r_bytes "$1"
  printf '%s error - 0 %s\n%s' "$R_NONCE" "$R_V" "$1"
}

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
  if [ -f "$1/started" ] && { read -r R_WHERE R_HASH r_line <"$1/started"; } 2>/dev/null; then
    R_STATE=started
    return
  fi
  # What was read may be the beginning of a line that was cut short.
  R_WHERE= R_HASH=
  r_exit "$1" || :
}

r_exit() {
  for r_file in "$1"/exit.*; do
    [ -f "$r_file" ] || continue
    R_STATE=exit R_RC=${r_file##*.}
    read -r R_WHERE R_HASH r_line <"$r_file"
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
  R_FATE=lost
  r_begun "$1" || return 0
  r_lives "$r_group" && R_FATE=orphan
}

# Whether the script of folder $1 has begun; sets r_group, its process group.
r_begun() {
  r_group=
  { read -r r_group <"$1/pgid"; } 2>/dev/null
  [ "$r_group" ]
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
  if [ "$2" = 0 ]; then flock -s -n 8 8<&8
  elif r_flock_waits; then flock -s -w "$2" 8 8<&8
  else timeout "$2" flock -s 8 8<&8
  fi
}

# Whether flock knows how long to wait; busybox's does not.
r_flock_waits() {
  if ! [ "$R_FLOCK_WAITS" ]; then
    R_FLOCK_WAITS=no
    flock --version >/dev/null && R_FLOCK_WAITS=yes
  fi
  [ "$R_FLOCK_WAITS" = yes ]
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

# fence EPOCH: after the answer nothing of a lower epoch begins on this host.
r_fence() {
  { true >>"$R_ROOT/fence.lock"; } 2>/dev/null || { r_error "the spool cannot be written"; return; }
  exec 7>>"$R_ROOT/fence.lock"
  flock 7 7>&7
  r_epoch
  if [ "$1" -gt "$R_EPOCH" ]; then
    if printf '%s\n' "$1" >"$R_ROOT/epoch.tmp" && sync "$R_ROOT/epoch.tmp" &&
      mv -f "$R_ROOT/epoch.tmp" "$R_ROOT/epoch" && sync "$R_ROOT"
    then R_EPOCH=$1
    else exec 7>&-; r_error "the epoch cannot be put on record in $R_ROOT (is the disk full?)"; return
    fi
  fi
  exec 7>&-
  if r_settled; then r_reply ok "$R_EPOCH"
  else r_error "a command that was launched before is still about to begin (is the disk slow?)"
  fi
}

# Wait for jobs that are about to begin. Who launches takes the lock of the job and reads the epoch
# after that: those that have read the old one are seen here.
r_settled() {
  r_tries=150
  for r_job in "$R_ROOT"/*/lock; do
    r_dir=${r_job%/*}
    r_exit "$r_dir" && continue
    while [ -f "$r_job" ] && ! r_begun "$r_dir" && ! r_shared "$r_dir" 0; do
      exec 8<&-
      r_tries=$((r_tries - 1))
      [ "$r_tries" -gt 0 ] || return 1
      sleep 0.1 || sleep 1
    done
    exec 8<&-
  done
}

# How to become user $1; $2 is 1 where a password is at hand. R_MODE: empty for "as we are".
r_mode() {
  R_MODE=
  [ "$1" ] || return 0
  [ "$R_USER" ] || R_USER=$(id -un)
  [ "$1" != "$R_USER" ] || return 0
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
  r_marked
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
    if flock -n 9 9>&9; then
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
  if ! [ "$R_SETSID" ]; then
    printf '%s' "$R_SUPERVISOR" >"$R_ROOT/tmp/$R_NONCE/job" || return 0
    R_SETSID=$(command -v setsid)
  fi
  r_text "${10}"; r_user=$R_V
  r_text "${11}"; r_cwd=$R_V
  r_text "${13}"; r_password=$R_V
  r_mode "$r_user" "${r_password:+1}"
  if [ "$R_MODE" ]; then r_script=${15#=}; else r_user= r_script= r_password=; fi
  { printf '%b' "${15#=}" >"$r_dir/cmd"; } 2>/dev/null || return 0
  r_exports=${14#=}
  set -- "$r_dir" "$r_hash $r_epoch_wanted" "$R_BOOT" "$R_UMASK" "$9" "$r_user" "$R_MODE" "$r_cwd" \
    "$r_input" "$R_SH" "$R_ROOT" "$R_SETSID" "$R_INNER"
  if [ "$r_exports$r_user" ]; then
    printf '%s\n' "$r_password" "$r_exports" "$r_script" |
      "$R_SETSID" $R_SH "$R_ROOT/tmp/$R_NONCE/job" "$@" >/dev/null 2>&1 9>&9 &
  else
    "$R_SETSID" $R_SH "$R_ROOT/tmp/$R_NONCE/job" "$@" </dev/null >/dev/null 2>&1 9>&9 &
  fi
  r_password= r_script=
}

# forget EPOCH JOB: for jobs that may be repeated; refused while one runs.
r_forget() {
  if [ -d "$R_ROOT/$1" ]; then
    exec 9>>"$R_ROOT/$1/lock"
    if ! flock -n 9 9>&9; then exec 9>&-; r_reply busy; return; fi
    rm -rf "$R_ROOT/$1"
    exec 9>&-
  fi
  r_reply ok
}

# tidy EPOCH: the whole spool of the run, and the folder of all spools when it was the last one there;
# refused while a job runs.
r_tidy() {
  for r_file in "$R_ROOT"/*/lock; do
    [ -f "$r_file" ] || continue
    exec 9>>"$r_file"
    if ! flock -n 9 9>&9; then exec 9>&-; r_reply busy; return; fi
    exec 9>&-
  done
  rm -rf "$R_ROOT"
  [ "$R_FOLDER" ] || rmdir "$HOME/.runbook"
  r_reply ok
}

# prune EPOCH: outputs and commands of ended jobs. What a repeated launch needs stays, and the prior
# files: a finished run can be taken back.
r_prune() {
  for r_file in "$R_ROOT"/*/exit.*; do
    [ -f "$r_file" ] || continue
    r_job=${r_file%/*}
    case $r_job in
      "$R_ROOT"/saved.*) rm -f "$r_job/err" "$r_job/cmd" ;;
      *) rm -f "$r_job/out" "$r_job/err" "$r_job/cmd" ;;
    esac
  done
  r_reply ok
}

# mark: the identity of this spool, from here on; nothing is launched before somebody asked for it.
r_identify() {
  if r_mark; then r_reply ok "$r_marker"; else r_error "$R_ROOT cannot be written"; fi
}

# Sets r_marker, the identity of this spool, made once: by whoever makes the file, or, where that
# one died before it had said what it is, by one after the other. One that a power cut has left
# empty was never told to anybody.
r_mark() {
  r_marked && return
  read -r r_uuid </proc/sys/kernel/random/uuid
  set -C
  { printf '%s\n' "$r_uuid" >"$R_ROOT/marker"; } 2>/dev/null && r_tries=0 || r_tries=20
  set +C
  until r_marked; do
    if [ "$r_tries" = 0 ]; then r_mark_alone; break; fi
    r_tries=$((r_tries - 1))
    sleep 0.1 || sleep 1
  done
  [ "$r_marker" ] && sync "$R_ROOT/marker" "$R_ROOT"
}

r_mark_alone() {
  { true >>"$R_ROOT/fence.lock"; } 2>/dev/null || return
  exec 7>>"$R_ROOT/fence.lock"
  flock 7 7>&7
  # Whoever sees half of it finds no whole line, and asks for the lock.
  r_marked || { printf '%s\n' "$r_uuid" >"$R_ROOT/marker"; } 2>/dev/null && r_marked
  exec 7>&-
}

r_marked() {
  r_marker=
  { read -r r_marker <"$R_ROOT/marker"; } 2>/dev/null || { r_marker=; return 1; }
}

r_hello() {
  # Twice: another run may just be tidying up the folder of all spools.
  mkdir -p "$R_ROOT/up" "$R_ROOT/tmp/$R_NONCE" || mkdir -p "$R_ROOT/up" "$R_ROOT/tmp/$R_NONCE" ||
    { r_error "$R_ROOT cannot be made"; return 1; }
  r_marked
  r_missing=
  for r_file in flock setsid timeout stat sync head tail id; do
    command -v "$r_file" >/dev/null || r_missing="$r_missing $r_file"
  done
  r_logind "" "/proc/$$/cgroup" "${LOGNAME:-${USER:-root}}"
  r_epoch
  r_line="marker=$r_marker
root=$R_ROOT
boot=$R_BOOT
epoch=$R_EPOCH
missing=${r_missing# }
logout=$R_LOGOUT
"
  r_bytes "$r_line"
  printf '%s hello - %s 0\n%s' "$R_NONCE" "$R_V" "$r_line"
}

r_end() {
  trap "" PIPE
  r_unguard
  rm -rf "$R_ROOT/tmp/$R_NONCE"
  exit 0
}

# Sets R_UMASK. The kernel tells it since Linux 4.7, and no process has to be started to ask.
r_umask() {
  { read -r r_line; read -r r_line R_UMASK; } </proc/$$/status
  [ "$r_line" = Umask: ] || R_UMASK=$(umask)
}

# NONCE, folder of all spools or "" for the default, name of this run's spool, shell of the jobs,
# and a dot: a shell runs a last line that was cut, too.
r_main() {
  [ "$5" = . ] || return
  exec 2>/dev/null
  R_NONCE=$1 R_SH=$4 R_NO_PASSWORD=' '
  r_umask
  umask 077
  R_PLAIN="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._=~-
"
  R_FOLDER=$2
  R_LIMIT= R_NAP= R_GUARD= R_USER= R_FLOCK_WAITS= R_SETSID= R_TIMEOUT= R_LEADS=
  R_ROOT=${2:-$HOME/.runbook}/$3
  r_texts
  r_boot
  # An answer that nobody reads any more: the controller is gone.
  trap r_end PIPE HUP TERM
  r_hello || r_end
  while IFS= read -r r_request; do
    [ "$r_request" ] || continue
    set -f; set -- $r_request; set +f
    r_verb=$1
    shift
    case $r_verb in
      plain) r_plain "$@" ;;
      launch) r_launch "$@" ;;
      wait) r_await "$@" || r_reply not_started ;;
      mark) r_identify ;;
      fence) r_fence "$1" ;;
      kill | forget | prune | tidy)
        r_epoch
        if [ "$1" -lt "$R_EPOCH" ]; then r_reply fenced "$R_EPOCH"
        else shift; "r_$r_verb" "$@"
        fi
        ;;
      *) r_error "unknown request" ;;
    esac
  done
  r_end
}
