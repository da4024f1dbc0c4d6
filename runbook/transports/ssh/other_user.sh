# Runs as the other user. Standard input: perhaps a password that nobody read, the mark, one line
# of script in the escapes of printf's %b, and then what the script itself shall read.
# $1 mark, $2 "in" where there is something to read, else "", $3 working directory or "".
while IFS= read -r R_l; do [ "$R_l" = "$1" ] && break; done
IFS= read -r R_l
[ "$2" ] || exec </dev/null
R_s=$(printf "%b." "$R_l"); R_l=
if [ "$3" ]; then cd -- "$3" || exit 125; else cd 2>/dev/null || cd /; fi
set --
eval "unset R_s R_l
${R_s%.}"
