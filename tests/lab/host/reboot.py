#!/usr/bin/env python3
"""reboot, halt, poweroff and shutdown of a lab host.

reboot(2) in a PID namespace ends that namespace's process 1 and nothing else; in the first one it
restarts the machine. So this refuses wherever it is not certain to be inside a lab host: the
mark that the lab puts into the host's own file system must be there, and the PID namespace must
not be the one that the mark names as outside.
"""

import ctypes
import os
import sys
from pathlib import Path

MARK = Path("/etc/runbook-lab/outside")
RESTART, POWER_OFF = 0x01234567, 0x4321FEDC


def inside() -> bool:
    try:
        outside = MARK.read_text().split()
        here = [str(Path(f"/proc/{who}/ns/pid").readlink()) for who in ("self", "1")]
    except OSError:
        return False
    return bool(outside) and not set(outside) & set(here) and here[0] == here[1]


def main() -> int:
    if not inside():
        print("refused: this is not a host of the lab", file=sys.stderr)
        return 1
    name = Path(sys.argv[0]).name
    off = name in ("halt", "poweroff") or (name == "shutdown" and "-r" not in sys.argv)
    ctypes.CDLL(None, use_errno=True).reboot(POWER_OFF if off else RESTART)
    print("refused:", os.strerror(ctypes.get_errno()), file=sys.stderr)
    return 1


sys.exit(main())
