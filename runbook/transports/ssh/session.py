"""One runner at the other end of a wire: a framed request, a framed answer.

The wire is a paramiko channel or the pipes of a local ``sh``; the runner is the same. A session
belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from runbook.transports.ssh.protocol import Hello, Reply, program, start_line

if TYPE_CHECKING:
    import paramiko

_READ = 256 * 1024
_NOISE_LIMIT = 1024 * 1024
_END_PATIENCE = 1.0


class SessionLost(Exception):
    """The wire broke or fell silent. Whether the last request arrived is not known."""


class RunnerRefused(Exception):
    """The runner answered that it cannot do it; the text says why."""


class Wire(Protocol):
    """Bytes both ways. Every method raises OSError or EOFError when the other end is gone."""

    def send(self, data: bytes) -> None: ...

    def receive(self, timeout: float) -> bytes:
        """Some bytes; none at the end of the stream. Raises TimeoutError."""

    def close(self) -> None: ...


class ChannelWire:
    """A session channel of an open paramiko transport, with ``/bin/sh`` at the other end."""

    def __init__(
        self, channel: paramiko.Channel, timeout: float, *, on_sent: Callable[[], None]
    ) -> None:
        """``on_sent`` is called after each time that something was sent."""
        self._channel = channel
        self._on_sent = on_sent
        channel.settimeout(timeout)
        # What a login script prints must not fill a window that nobody reads.
        channel.set_combine_stderr(True)
        channel.exec_command("exec /bin/sh")

    def send(self, data: bytes) -> None:
        self._channel.sendall(data)
        self._on_sent()

    def receive(self, timeout: float) -> bytes:
        self._channel.settimeout(timeout)
        return self._channel.recv(_READ)

    def close(self) -> None:
        # To say goodbye on a connection that has died is not possible, and not needed.
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()


class ProcessWire:
    """A local shell, for the controller itself. It has its own session: a Ctrl-C at the
    terminal is for the operator's program, not for it."""

    def __init__(
        self, argv: Sequence[str] = ("/bin/sh",), env: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, env=None if env is None else dict(env), bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._in.fileno(), view) :]

    def receive(self, timeout: float) -> bytes:
        if not self._selector.select(timeout):
            raise TimeoutError
        return os.read(self._out.fileno(), _READ)

    def close(self) -> None:
        """End of input ends the runner; one that does not end (it waits for a job) is killed,
        which is no harm to the job."""
        self._selector.close()
        self._in.close()
        self._out.close()
        try:
            self._process.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Session:
    """A started runner.

    ``base`` is the folder of all spools ("" for ``~/.runbook``), ``shell`` what runs the jobs.
    Raises SessionLost when no runner answers within ``timeout``, RunnerRefused when it cannot
    make the spool's folder.
    """

    def __init__(
        self, wire: Wire, *, run: str, base: str = "", shell: str = "/bin/sh",
        timeout: float = 15.0,
    ) -> None:
        self._wire = wire
        nonce = secrets.token_hex(16)
        self._nonce = nonce.encode()
        self._buffer = bytearray()
        self.closed = False
        try:
            line = program() + start_line(nonce, base, run, shell)
            self.hello = Hello.parse(self._exchange(line, timeout).out)
        except BaseException:
            self.close()
            raise

    def request(self, line: str, timeout: float) -> Reply:
        """Send one request and wait for its answer. After SessionLost the session is useless.

        ``timeout`` is of silence: as long as bytes arrive, it goes on.
        """
        return self._exchange(line + "\n", timeout)

    def mark(self, timeout: float) -> str:
        """The identity of the run's spool on the host. It is made now, and is on disk, where the
        host had none. Raises RunnerRefused (it cannot be written) and SessionLost."""
        if not self.hello.marker:
            self.hello = replace(self.hello, marker=self.request("mark", timeout).word)
        return self.hello.marker

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wire.close()

    def _exchange(self, line: str, timeout: float) -> Reply:
        try:
            self._wire.send(line.encode("utf-8", "surrogateescape"))
            reply = self._answer(timeout)
        except (OSError, EOFError) as fault:
            self.close()
            raise SessionLost(_reason(fault, timeout)) from fault
        if reply.status == "error":
            raise RunnerRefused(reply.err.decode("utf-8", "replace"))
        return reply

    def _answer(self, timeout: float) -> Reply:
        deadline = time.monotonic() + timeout
        while True:
            start = self._buffer.find(self._nonce)
            end = self._buffer.find(b"\n", start) if start >= 0 else -1
            if end >= 0:
                break
            if start < 0 and len(self._buffer) > _NOISE_LIMIT:
                del self._buffer[: -len(self._nonce)]
            # Noise must not keep a dead runner alive: here the limit is on the whole.
            self._more(deadline - time.monotonic())
        _, status, word, out, err = self._buffer[start:end].decode("ascii").split(" ")
        del self._buffer[: end + 1]
        whole = int(out) + int(err)
        while len(self._buffer) < whole:
            self._more(timeout)
        data = bytes(self._buffer[:whole])
        del self._buffer[:whole]
        return Reply(status, word, data[: int(out)], data[int(out) :])

    def _more(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError
        data = self._wire.receive(timeout)
        if not data:
            raise EOFError("the connection was closed")
        self._buffer += data


def _reason(fault: Exception, timeout: float) -> str:
    if isinstance(fault, TimeoutError):
        return f"no answer within {timeout:.0f} s"
    return str(fault) or type(fault).__name__
