# R_AS: the words before a command that is to run as another user. $1 is the mode of r_mode.
r_as_words() {
  case $1 in
    n) R_AS="sudo -n -u" ;;
    p) R_AS="sudo -k -S --prompt= -u" ;;
    r) R_AS="runuser -u" ;;
  esac
}
