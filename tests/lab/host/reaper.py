"""A small process 1: starts one command and reaps every orphan. Stands in for tini."""

import os
import sys

main = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
while True:
    pid, status = os.wait()
    if pid == main:
        sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
