# Ending a job with all its processes. A part of runner.sh, which says what the names mean.

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

# kill EPOCH JOB HASH =USER =PASSWORD: TERM, and KILL after five seconds.
r_kill() {
  r_dir=$R_ROOT/$1
  r_tries=5
  while ! r_begun "$r_dir"; do
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
