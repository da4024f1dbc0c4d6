"""Delays packets: `relay.py DEVICE SECONDS` in the router's namespace.

The router sends what leaves or enters a delayed site through a TUN device; each packet comes back
out of it so much later (kernels without netem have no other way).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST = 65536


def main(device: str, seconds: float) -> None:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
    waiting: deque[tuple[float, bytes]] = deque()
    print("ready", flush=True)
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([tun], [], [], left)
        if readable:
            waiting.append((time.monotonic() + seconds, os.read(tun, _LARGEST)))
        while waiting and waiting[0][0] <= time.monotonic():
            packet = waiting.popleft()[1]
            try:
                os.write(tun, packet)
            except OSError as fault:
                print(f"a packet was dropped: {fault}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
