# Queries: commands that only read. A part of runner.sh, which says what the names mean.

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
    r_password=
    if [ "$R_SINCE" ]; then r_copy "$@"; else r_timed "$@"; fi
  fi
  r_output done "$r_rc" "$r_dir" 0 0 "$2"
  if [ -s "$r_dir/out" ]; then true >"$r_dir/out"; fi
  if [ -s "$r_dir/err" ]; then true >"$r_dir/err"; fi
}

# The query, in a copy of this shell: to start timeout and another shell would cost several times
# what all the rest does.
r_copy() {
  r_text "$7"; r_script=$R_V
  r_guard "$1"
  (
    umask "$R_UMASK"
    cd -- "${r_cwd:-${HOME:-/}}" || exit 125
    if [ "$6" != = ]; then r_text "$6"; eval "$R_V"; fi
    set --
    r_request= r_exports= r_line= R_V=
    eval "$r_script"
  ) </dev/null >"$r_dir/out" 2>"$r_dir/err"
  r_rc=$?
  echo 0 1<>"$r_dir/query"
  if [ -e "$r_dir/query.over" ]; then r_rc=124; rm -f "$r_dir/query.over"; fi
}

# The query, where this shell does not lead its process group.
r_timed() {
  if ! printf '%b' "${7#=}" >"$r_dir/cmd"; then r_rc=126; return; fi
  (
    umask "$R_UMASK"
    cd -- "${r_cwd:-${HOME:-/}}" || exit 125
    if [ "$6" != = ]; then r_text "$6"; eval "$R_V"; fi
    exec "$R_TIMEOUT" -k 2 "$1" $R_SH "$r_dir/cmd"
  ) </dev/null >"$r_dir/out" 2>"$r_dir/err"
  r_rc=$?
  # Death by signal N is 256 + N in ksh93.
  if [ "$r_rc" -gt 256 ]; then r_rc=$((r_rc - 128)); fi
}

# See to it that the query about to start is ended after $1 seconds. One guard looks after all
# queries until it wakes; what it has to know is written before the clock is read that tells
# whether it still sleeps.
r_guard() {
  read -r r_now r_line </proc/uptime
  r_due=$((${r_now%.*} + $1 + 1))
  echo "$r_due" 1<>"$r_dir/query"
  read -r r_now r_line </proc/uptime
  r_now=${r_now%.*}
  [ "$R_WAKES" -gt "$r_now" ] && [ "$R_WAKES" -le "$r_due" ] && return
  r_unguard
  R_WAKES=$((r_now + $1 + 1))
  ( r_watch "$(($1 + 1))" ) </dev/null >/dev/null 2>&1 &
  R_GUARD=$!
}

# The guard: ends the query that has outlived its time; $1 seconds to the first look. The file
# "query" says until when (seconds since boot) the one that runs may run; 0 when none does.
r_watch() {
  r_request= r_exports= r_script= R_V=
  r_nap "$1"
  while r_running; do
    read -r r_now r_line </proc/uptime
    r_left=$((r_due - ${r_now%.*}))
    if [ "$r_left" -le 0 ]; then break; fi
    r_nap "$r_left"
  done
  r_over=$r_due
  for r_kill in TERM KILL; do
    r_members
    # They were there before this look, so they are of that query and not of the next one.
    if ! r_running || [ "$r_due" != "$r_over" ]; then return; fi
    true >"$r_dir/query.over"
    kill "-$r_kill" $R_MEMBERS
    r_nap 2
  done
}

r_running() {
  r_due=0
  { read -r r_due <"$r_dir/query"; } 2>/dev/null
  [ "$r_due" != 0 ]
}

# The trap may run before the nap is known, so r_stop is looked at on both sides of it.
r_nap() {
  r_sleeper= r_stop=
  trap 'r_stop=1; [ -z "$r_sleeper" ] || kill -KILL "$r_sleeper"' TERM
  sleep "$1" & r_sleeper=$!
  [ "$r_stop" ] && kill -KILL "$r_sleeper"
  wait "$r_sleeper"
  [ -z "$r_stop" ] || exit 0
}

# R_MEMBERS: the processes of this group but the runner and the guard, which asks.
r_members() {
  read -r r_guard r_line </proc/self/stat
  R_MEMBERS=
  for r_file in /proc/[0-9]*/stat; do
    { read -r r_line <"$r_file"; } 2>/dev/null || continue
    r_pid=${r_line%% *}
    set -f; set -- ${r_line##*') '}; set +f
    if [ "$r_pid" = "$$" ]; then [ "${20}" = "$R_SINCE" ] || exit 0
    elif [ "$3" = "$$" ] && [ "$r_pid" != "$r_guard" ]; then R_MEMBERS="$R_MEMBERS $r_pid"
    fi
  done
}

# End the guard, if that process is still ours.
r_unguard() {
  { [ "$R_GUARD" ] && read -r r_line </proc/"$R_GUARD"/stat; } 2>/dev/null || return 0
  set -f; set -- ${r_line##*') '}; set +f
  [ "$2" = "$$" ] && kill -TERM "$R_GUARD"
}

# R_SINCE: when this shell was started, where it leads its process group; otherwise empty. A ksh
# makes no process of a subshell, so what is to be ended would be the runner.
r_leads() {
  R_SINCE=
  [ -z "${KSH_VERSION-}" ] || return 0
  { read -r r_line </proc/$$/stat; } 2>/dev/null || return 0
  set -f; set -- ${r_line##*') '}; set +f
  [ "$3" = "$$" ] && R_SINCE=${20}
}
