"""``systemctl`` of a sandbox host: hands its arguments to the world, which runs the services."""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> int:
    directory = os.open(os.environ["RUNBOOK_SANDBOX_DIR"], os.O_RDONLY)
    request = {
        "op": "systemctl",
        "host": os.environ["RUNBOOK_SANDBOX_HOST"],
        "args": sys.argv[1:],
    }
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(f"/proc/self/fd/{directory}/control.sock")
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        except (OSError, ValueError) as fault:
            sys.stderr.write(f"systemctl: the sandbox does not answer: {fault}\n")
            return 1
    sys.stdout.write(answer.get("stdout", ""))
    sys.stderr.write(answer.get("stderr") or answer.get("error", ""))
    return int(answer.get("exit", 1))


if __name__ == "__main__":
    sys.exit(main())
