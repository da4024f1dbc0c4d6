# The re-attachable job in its plainest form, to compare with: one folder a job, flock, setsid,
# every durable step as the textbook has it (write, fsync, rename, fsync of the folder).
# It reads "JOB SCRIPT" lines and answers "JOB exit CODE".
umask 077
mkdir -p "$1" || exit 1
cd "$1" || exit 1
read -r boot </proc/sys/kernel/random/boot_id
launch() {
  mkdir -p "$1"
  exec 9>>"$1/lock"
  if flock -n 9; then
    found=
    for file in "$1"/exit.*; do [ -f "$file" ] && found=done; done
    if [ -f "$1/started" ] && ! [ "$found" ]; then
      read -r where _ <"$1/started"
      found=lost
      if [ "$where" = "$boot" ]; then
        read -r group <"$1/pgid" && kill -0 "-$group" 2>/dev/null && found=orphan
      fi
    fi
    if ! [ "$found" ]; then
      printf '%s\n' "$2" >"$1/cmd"
      hash=$(sha256sum "$1/cmd")
      setsid sh -c "$supervise" supervise "$1" "$boot" "${hash%% *}" </dev/null >/dev/null 2>&1 &
    fi
  fi
  exec 9>&-
  exec 8<"$1/lock"
  flock -s -w 60 8
  exec 8<&-
  for file in "$1"/exit.*; do :; done
  printf '%s exit %s %s\n' "$1" "${file##*.}" "$(cat "$1/out" "$1/err")"
}
supervise='
  trap "" HUP INT QUIT
  cd "$1" || exit 1
  printf "%s %s\n" "$2" "$3" >started.tmp
  sync cmd started.tmp && mv started.tmp started && sync . || exit 1
  setsid timeout -k 5 3600 sh ./cmd >out 2>err 9>&- &
  echo "$!" >pgid
  wait "$!"
  mv started "exit.$?"
'
while read -r job script; do launch "$job" "$script"; done
