# Whether systemd-logind ends all that a login has started when it ends: then no command outlives
# its connection. $1 root of the files ("" for /), $2 the cgroups of this shell (cgroups(7)), $3
# login. Sets R_LOGOUT to the file that says so, or to nothing. See logind.conf(5): lingering does
# not help, it is about the user's own manager. A commented line is the default that logind was
# built with; the main file comes first, and the snippets override it.
r_logind() {
  R_LOGOUT= r_kills= r_spared=root r_only= r_set=
  [ -d "$1/run/systemd/sessions" ] || return 0
  r_scope=
  while IFS= read -r r_line; do
    case $r_line in */session-*.scope*) r_scope=1 ;; esac
  done <"$2"
  [ "$r_scope" ] || return 0
  for r_file in "$1"/etc/systemd/logind.conf "$1"/usr/lib/systemd/logind.conf; do
    [ -f "$r_file" ] && { r_logind_conf; break; }
  done
  for r_file in "$1"/usr/lib/systemd/logind.conf.d/*.conf "$1"/run/systemd/logind.conf.d/*.conf \
    "$1"/etc/systemd/logind.conf.d/*.conf; do
    [ -f "$r_file" ] && r_logind_conf
  done
  case $r_kills in [Yy]es | [Tt]rue | [Oo]n | 1) ;; *) return 0 ;; esac
  case " $r_spared " in *" $3 "*) return 0 ;; esac
  case $r_only in '') ;; *) case " $r_only " in *" $3 "*) ;; *) return 0 ;; esac ;; esac
  R_LOGOUT=${r_set#"$1"}
}

r_logind_conf() {
  while IFS= read -r r_line || [ "$r_line" ]; do
    case $r_line in
      '#KillUserProcesses='*) [ "$r_set" ] || r_kills=${r_line#*=} r_set=$r_file ;;
      KillUserProcesses=*) r_kills=${r_line#*=} r_set=$r_file ;;
      KillExcludeUsers=*) r_spared=${r_line#*=} ;;
      KillOnlyUsers=*) r_only=${r_line#*=} ;;
    esac
  done <"$r_file"
}
