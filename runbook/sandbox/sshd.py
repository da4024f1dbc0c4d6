"""An SSH server for every host of a world, all in one process.

Commands are real processes (``/bin/sh -c``) in the host's folder. As with OpenSSH, a lost
connection closes a command's pipes and does not end it (sshd(8)).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import signal
from pathlib import Path
from typing import Any

import asyncssh

from runbook.sandbox.hosts import HostSpace
from runbook.sandbox.routes import Router, Unroutable

_CHUNK = 65536


class HostServer:
    """The listener of one host."""

    def __init__(
        self, space: HostSpace, *, site: str, router: Router, host_key: asyncssh.SSHKey,
        authorized_keys: Path,
    ) -> None:
        self._space = space
        self._site = site
        self._router = router
        self._host_key = host_key
        self._authorized_keys = authorized_keys
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    async def start(self) -> int:
        """Listen on a free loopback port and return it."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1", 0,
            server_factory=lambda: _Session(self._connections, self._router, self._site),
            server_host_keys=[self._host_key],
            authorized_client_keys=str(self._authorized_keys),
            process_factory=self._run,
            sftp_factory=lambda chan: _Sftp(chan, self._space.home),
            allow_scp=True, encoding=None, login_timeout=20, keepalive_interval=0,
            line_editor=False, gss_host=None, agent_forwarding=False,
        )
        return int(self._acceptor.get_port())

    def cut(self) -> int:
        """Drop every connection at once, without a goodbye. How many there were."""
        count = len(self._connections)
        for connection in list(self._connections):
            connection.abort()
        return count

    async def stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        self.cut()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        env = {**self._space.env, **_as_text(process.env)}
        argv = ["/bin/sh", "-c", process.command] if process.command else ["/bin/sh"]
        try:
            child = await asyncio.create_subprocess_exec(
                *argv, cwd=self._space.home, env=env, start_new_session=True,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, limit=4 * _CHUNK,
            )
        except OSError as fault:
            process.stderr.write(f"sandbox: cannot start a process: {fault}\n".encode())
            process.exit(255)
            return
        assert child.stdin and child.stdout and child.stderr
        feeder = asyncio.create_task(_feed(process, child, child.stdin))
        try:
            await asyncio.gather(
                _drain(child.stdout, process.stdout), _drain(child.stderr, process.stderr)
            )
            code = await child.wait()
        finally:
            feeder.cancel()
        if code < 0:
            process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            process.exit(code)


async def _feed(
    process: asyncssh.SSHServerProcess[bytes],
    child: asyncio.subprocess.Process,
    stdin: asyncio.StreamWriter,
) -> None:
    """Client's input to the command; signals to its process group; end of input at a loss."""
    try:
        while True:
            try:
                data = await process.stdin.read(_CHUNK)
            except asyncssh.SignalReceived as sent:
                with contextlib.suppress(ProcessLookupError, AttributeError):
                    os.killpg(child.pid, signal.Signals[f"SIG{sent.signal}"])
                continue
            except (asyncssh.TerminalSizeChanged, asyncssh.BreakReceived):
                continue
            if not data:
                break
            stdin.write(data)
            await stdin.drain()
    except (OSError, asyncssh.Error):
        pass  # the command closed its input, or the connection is gone: the input ends here
    finally:
        stdin.close()


async def _drain(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    """A command's output to the client. When the client is gone the pipe is closed, and the
    command learns of it as it would under OpenSSH, at its next write."""
    while data := await source.read(_CHUNK):
        try:
            sink.write(data)
            await sink.drain()
        except (OSError, asyncssh.Error):
            transport: Any = getattr(source, "_transport", None)
            if transport is not None:
                transport.close()
            return


def _as_text(env: Any) -> dict[str, str]:
    def text(item: Any) -> str:
        return item.decode(errors="replace") if isinstance(item, bytes) else str(item)

    return {text(key): text(value) for key, value in dict(env).items()}


class _Session(asyncssh.SSHServer):
    """Keeps count of the connections, and forwards TCP through the world's own table."""

    def __init__(
        self, connections: set[asyncssh.SSHServerConnection], router: Router, site: str
    ) -> None:
        self._all = connections
        self._router = router
        self._site = site
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._all.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._all.discard(self._connection)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        return self._forward(dest_host, dest_port)

    async def _forward(self, host: str, port: int) -> Any:
        assert self._connection is not None
        try:
            real_host, real_port = await self._router.target(host, port, self._site)
        except Unroutable as fault:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(fault)) from fault
        return await self._connection.forward_connection(real_host, real_port)


class _Sftp(asyncssh.SFTPServer):
    """SFTP in the host's folder. A path outside of it is taken as one inside."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], home: Path) -> None:
        super().__init__(chan)
        self._home = os.fsencode(home)

    def map_path(self, path: bytes) -> bytes:
        whole = posixpath.normpath(posixpath.join(self._home, path))
        if whole == self._home or whole.startswith(self._home + b"/"):
            return whole
        return posixpath.join(self._home, whole.lstrip(b"/"))

    def exit(self) -> None:
        """OpenSSH's scp takes a session without an exit status for a failure."""
        channel: Any = self.channel
        channel.exit(0)
