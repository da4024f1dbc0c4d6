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
    [ "$R_LEADS" ] || r_leads
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
  if [ -e "$r_dir/query.over" ]; then r_rc=124; rm -f "$r_dir/query.over"; fi
}

# The query, where this shell does not lead its process group.
r_timed() {
  if ! printf '%b' "${7#=}" >"$r_dir/cmd"; then r_rc=126; return; fi
  # Where it is here: what is exported may change PATH.
  [ "$R_TIMEOUT" ] || R_TIMEOUT=$(command -v timeout)
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

# See to it that the query about to start is ended after $1 seconds: the file "query" says how
# long one may run. One guard looks after all queries, as often as the shortest limit so far asks;
# it finds them by itself, so a query costs nothing for being guarded.
r_guard() {
  if [ "$1" != "$R_LIMIT" ]; then echo "$1" 1<>"$r_dir/query"; R_LIMIT=$1; fi
  [ "$R_NAP" ] && [ "$1" -ge "$R_NAP" ] && return
  r_unguard
  R_NAP=$1
  ( r_watch ) </dev/null >/dev/null 2>&1 &
  R_GUARD=$!
}

# The guard: ends the query that has outlived its time, as long as the runner lives.
r_watch() {
  r_request= r_exports= r_script= R_V=
  # Starts are told in ticks of another clock in some containers, so it goes by its own.
  r_clock
  read -r r_line </proc/self/stat
  set -f; set -- ${r_line##*') '}; set +f
  r_shift=$((r_now * 100 - ${20}))
  r_nap "$((R_NAP + 1))"
  while r_members; do
    r_left=$((R_NAP + 1))
    if [ "$r_query" ]; then
      r_clock
      read -r r_limit <"$r_dir/query"
      r_rest=$((r_limit + (${r_query#* } + r_shift) / 100 + 1 - r_now))
      if [ "$r_rest" -le 0 ]; then
        r_put_an_end "$r_query"
        continue
      fi
      [ "$r_rest" -ge "$r_left" ] || r_left=$r_rest
    fi
    r_nap "$r_left"
  done
}

# End query $1 with all that it has started.
r_put_an_end() {
  for r_kill in TERM KILL; do
    r_members || return
    # They were there before this look, so they are of that query and not of the next one.
    if [ "$r_query" != "$1" ] || ! r_is "$1"; then return; fi
    true >"$r_dir/query.over"
    kill "-$r_kill" $R_MEMBERS
    r_nap 2
  done
}

# Whether process and start $1 are still there.
r_is() {
  { read -r r_line <"/proc/${1% *}/stat"; } 2>/dev/null || return
  r_start=${1#* }
  set -f; set -- ${r_line##*') '}; set +f
  [ "$1" != Z ] && [ "${20}" = "$r_start" ]
}

# r_now: seconds since boot.
r_clock() {
  read -r r_now r_line </proc/uptime
  r_now=${r_now%.*}
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

# R_MEMBERS: the processes of this group but the runner and the guard, which asks. r_query: process
# and start (in ticks) of the query that runs, or nothing. Fails where the runner is gone.
r_members() {
  read -r r_guard r_line </proc/self/stat
  R_MEMBERS= r_query= r_alive=
  for r_file in /proc/[0-9]*/stat; do
    { read -r r_line <"$r_file"; } 2>/dev/null || continue
    r_pid=${r_line%% *}
    set -f; set -- ${r_line##*') '}; set +f
    if [ "$r_pid" = "$$" ]; then
      [ "${20}" = "$R_SINCE" ] && r_alive=1
    elif [ "$3" = "$$" ] && [ "$r_pid" != "$r_guard" ]; then
      R_MEMBERS="$R_MEMBERS $r_pid"
      if [ "$2" = "$$" ] && [ "$1" != Z ]; then r_query="$r_pid ${20}"; fi
    fi
  done
  [ "$r_alive" ]
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
  R_LEADS=known R_SINCE=
  [ -z "${KSH_VERSION-}" ] || return 0
  { read -r r_line </proc/$$/stat; } 2>/dev/null || return 0
  set -f; set -- ${r_line##*') '}; set +f
  [ "$3" = "$$" ] && R_SINCE=${20}
}
