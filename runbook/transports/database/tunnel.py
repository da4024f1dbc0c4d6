"""A Unix socket here that leads through SSH to a port over there.

In a folder that only this user can enter, unlike a port on the loopback address, which every
user of the controller could connect to.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable

from runbook.errors import RunbookError
from runbook.transports.database.driver import Address
from runbook.transports.net_dial import SocketLike

_CHUNK = 65536


class Tunnel:
    """Listens until it is closed; every connection to it opens one more through ``dial``."""

    def __init__(self, dial: Callable[[], SocketLike], port: int) -> None:
        self._dial = dial
        self._folder = tempfile.mkdtemp(prefix="runbook-")
        self.address = Address(host="", port=port, socket_dir=self._folder)
        self.fault: RunbookError | None = None
        """Why the last connection could not be made through it."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.address.socket_path)
        self._listener.listen()
        threading.Thread(target=self._serve, name="database-tunnel", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Wakes the thread that waits in accept(2); closing alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = self._dial()
            except RunbookError as fault:
                self.fault = fault
                near.close()
                continue
            self.fault = None
            far.settimeout(None)
            for source, target in ((near, far), (far, near)):
                threading.Thread(
                    target=_pump, args=(source, target), name="database-tunnel", daemon=True
                ).start()


def _pump(source: SocketLike, target: SocketLike) -> None:
    """Bytes from one to the other until either ends; then both are closed, which ends the other
    direction too."""
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError, EOFError):
            end.close()
