"""One host: its connection and its runner sessions, opened when needed, shared by threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import paramiko

from runbook.errors import Errored, Fenced
from runbook.model.inventory import Host
from runbook.transports.ssh.connection import ChannelsExhausted, Connection
from runbook.transports.ssh.protocol import Hello, Reply
from runbook.transports.ssh.send import send_file
from runbook.transports.ssh.session import (
    ChannelWire,
    ProcessWire,
    RunnerRefused,
    Session,
    SessionLost,
)
from runbook.transports.ssh.sessions import SessionPool

START_TIMEOUT = 15.0
FENCE_TIMEOUT = 25.0
"""A fence waits, up to 15 s, for what is about to begin."""
_FREED_TRIES = 40
_FREED_PAUSE = 0.05


class SpoolReplaced(Errored):
    """The spool of this run is not the one that this controller had opened: to ask again later
    does not help."""


class Link(Protocol):
    """What a host offers to the parts that run jobs on it."""

    @property
    def name(self) -> str | None: ...

    @property
    def host(self) -> Host | None: ...

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """A runner for this thread alone, for the time of the block. Raises Errored when none
        can be had: nothing was asked of the host then."""

    def marked(self, session: Session) -> str:
        """The identity of this run's spool on the host. It is made now where the host has none
        yet, and the run has it on record when this returns. Raises Errored, and SpoolReplaced."""

    def upload(self, name: str, source: Path | bytes) -> str:
        """Put content into the spool under ``up/NAME``, mode 0600; its path there. Raises
        Errored or SessionLost; what was half written is not under that name."""

    def close(self) -> None: ...


class LocalLink:
    """The controller itself: the same runner in a local shell."""

    name: str | None = None
    host: Host | None = None

    def __init__(
        self, *, run: str, base: Path, limit: int, on_hello: Callable[[Session], None],
        mark: Callable[[Session], str], env: Mapping[str, str] | None = None,
    ) -> None:
        self._run = run
        self._mark = mark
        self._base = base
        self._env = env
        self._sessions = SessionPool("the controller", limit, self._open, on_hello)

    def session(self) -> contextlib.AbstractContextManager[Session]:
        return self._sessions.lease()

    def marked(self, session: Session) -> str:
        return self._mark(session)

    def upload(self, name: str, source: Path | bytes) -> str:
        with self.session() as session:
            target = Path(session.hello.root, "up", name)
        try:
            data = source.read_bytes() if isinstance(source, Path) else source
            target.touch(mode=0o600, exist_ok=False)
            target.write_bytes(data)
        except OSError as fault:
            target.unlink(missing_ok=True)
            raise Errored(f"{fault.filename} cannot be copied ({fault.strerror})") from fault
        return str(target)

    def close(self) -> None:
        self._sessions.close()

    def _open(self) -> Session:
        try:
            wire = ProcessWire(env=self._env)
            return Session(
                wire, run=self._run, base=str(self._base.absolute()), timeout=START_TIMEOUT
            )
        except (OSError, SessionLost, RunnerRefused) as fault:
            raise Errored(f"the controller's own runner does not start: {fault}") from fault


class RemoteLink:
    """A host over SSH. Opened under its own lock; reopened when the connection has died."""

    def __init__(
        self, host: Host, *, run: str, limit: int, connect: Callable[[Host], Connection],
        on_hello: Callable[[Session], None], mark: Callable[[Session], str],
    ) -> None:
        self.host: Host | None = host
        self.name: str | None = host.name
        self._host = host
        self._run = run
        self._connect = connect
        self._mark = mark
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock = threading.Lock()
        self._without_sftp = False
        self._closing = threading.Event()
        self._cut_next: Callable[[], object] | None = None
        self._sessions = SessionPool(host.name, limit, self._open, on_hello)

    def session(self) -> contextlib.AbstractContextManager[Session]:
        return self._sessions.lease()

    def marked(self, session: Session) -> str:
        return self._mark(session)

    def connection(self) -> Connection:
        """The open connection, opened now if need be. Raises Errored."""
        with self._lock:
            if self._closing.is_set():
                raise Errored(f"the connection to {self._host.name} has been closed")
            current = self._connection
            if current is not None and current.alive:
                return current
            if current is not None:
                self._sessions.drop_idle()
                current.close()
            self._sftp = None
            self._connection = None
            self._connection = self._connect(self._host)
            return self._connection

    def drop(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            current, self._connection, self._sftp = self._connection, None, None
        self._sessions.drop_idle()
        if current is not None:
            current.close()

    def tunnel(
        self, address: str, port: int, timeout: float | None = None
    ) -> paramiko.Channel:
        """A TCP connection made from this host. Raises Errored; where the far end refused, its
        cause is a ChannelException, where it kept silent a TimeoutError."""
        try:
            return self.connection().tunnel(address, port, timeout)
        except (paramiko.ChannelException, TimeoutError) as fault:
            raise Errored(f"{self._host.name} cannot reach {address}:{port} ({fault})") from fault
        except (paramiko.SSHException, OSError, EOFError) as fault:
            self.drop()
            raise Errored(f"the connection to {self._host.name} is lost ({fault})") from fault

    def upload(self, name: str, source: Path | bytes) -> str:
        with self.session() as session:
            root = session.hello.root
        target = f"{root}/up/{name}"
        with self._sftp_lock:
            try:
                sftp = self._open_sftp()
                if sftp is None:
                    with self._channel() as channel:
                        send_file(channel, target, source)
                    return target
                with sftp.open(f"{target}.part", "wb") as file:
                    sftp.chmod(f"{target}.part", 0o600)
                    file.set_pipelined(True)
                    if isinstance(source, Path):
                        with source.open("rb") as local:
                            while block := local.read(256 * 1024):
                                file.write(block)
                    else:
                        file.write(source)
                sftp.rename(f"{target}.part", target)
            except FileNotFoundError as fault:
                if isinstance(source, Path) and not source.is_file():
                    raise Errored(f"{source} does not exist on the controller") from fault
                raise SessionLost(f"the spool of {self._host.name} has gone") from fault
            except ChannelsExhausted as fault:
                raise Errored(
                    f"{self._host.name} opens no SFTP session beside the running commands",
                    hint="raise MaxSessions of its sshd_config, or try again when they have ended",
                ) from fault
            except (paramiko.SSHException, OSError, EOFError) as fault:
                self._sftp = None
                raise SessionLost(f"SFTP to {self._host.name}: {fault}") from fault
        return target

    def cut_next(self, on_cut: Callable[[], object]) -> None:
        """For rehearsals: as soon as the next request has been sent, the connection breaks, and
        ``on_cut`` is called."""
        self._cut_next = on_cut

    def _sent(self) -> None:
        with self._lock:
            on_cut, self._cut_next = self._cut_next, None
            current = self._connection
        if on_cut is not None and current is not None:
            current.abort()
            on_cut()

    def close(self) -> None:
        self._sessions.close()
        with self._lock:
            self._closing.set()
        self.drop()

    def _open(self) -> Session:
        connection = self.connection()
        try:
            channel = connection.session()
        except ChannelsExhausted:
            if self._sftp is None:
                raise
            self._close_sftp()
            channel = self._freed(connection)
        except (paramiko.SSHException, OSError, EOFError) as fault:
            self.drop()
            raise Errored(f"the connection to {self._host.name} is lost ({fault})") from fault
        try:
            return Session(
                ChannelWire(channel, START_TIMEOUT, on_sent=self._sent), run=self._run
            )
        except (paramiko.SSHException, SessionLost, OSError, EOFError) as fault:
            channel.close()
            raise Errored(
                f"{self._host.name}: no shell answers over SSH ({fault})",
                hint="the login needs /bin/sh, and no ForceCommand",
            ) from fault
        except RunnerRefused as fault:
            raise Errored(
                f"{self._host.name}: {fault}", hint="the login needs a home it can write to"
            ) from fault

    def _open_sftp(self) -> paramiko.SFTPClient | None:
        """One SFTP channel, kept; None where the server has no SFTP (Dropbear, often)."""
        sftp = self._sftp
        if sftp is not None:
            channel = sftp.get_channel()
            if channel is not None and not channel.closed:
                return sftp
        if self._without_sftp:
            return None
        channel = self._next_channel()
        channel.settimeout(START_TIMEOUT)
        try:
            channel.invoke_subsystem("sftp")
            self._sftp = paramiko.SFTPClient(channel)
        except (paramiko.SSHException, EOFError):
            channel.close()
            if not self.connection().alive:
                raise
            self._without_sftp = True
            return None
        return self._sftp

    @contextlib.contextmanager
    def _channel(self) -> Iterator[paramiko.Channel]:
        channel = self._next_channel()
        channel.settimeout(START_TIMEOUT)
        try:
            yield channel
        finally:
            channel.close()

    def _next_channel(self) -> paramiko.Channel:
        """A channel beside the runners'. Where the host allows no further one, idle ones make
        room."""
        connection = self.connection()
        try:
            return connection.session()
        except ChannelsExhausted:
            # Wait for our turn at a runner, and take over its channel.
            with self._sessions.lease() as session:
                session.close()
                return self._freed(connection)

    def _freed(self, connection: Connection) -> paramiko.Channel:
        """A channel in place of one just closed: sshd counts that until its process has ended."""
        for _ in range(_FREED_TRIES):
            try:
                return connection.session()
            except ChannelsExhausted:
                if self._closing.wait(_FREED_PAUSE):
                    break
        return connection.session()

    def _close_sftp(self) -> None:
        with self._sftp_lock:
            sftp, self._sftp = self._sftp, None
        if sftp is not None:
            with contextlib.suppress(OSError, EOFError):
                sftp.close()


def check_tools(label: str, hello: Hello) -> None:
    """Raises Errored when the host lacks what the runner needs."""
    if hello.missing:
        raise Errored(
            f"{label} lacks {', '.join(hello.missing)}; nothing was changed there",
            hint="install util-linux and coreutils (or busybox)",
        )


def check_logout(label: str, hello: Hello) -> None:
    """Raises Errored when the host ends what a login has started once its connection ends: a
    command must outlive it. See logind.conf(5)."""
    if hello.logout:
        raise Errored(
            f"{label} ends everything that a login has started when its connection ends "
            f"(KillUserProcesses, {hello.logout}), so no command would outlive a lost connection; "
            "nothing was changed there",
            hint="in logind.conf set KillUserProcesses=no, or add this login to "
            "KillExcludeUsers=, and restart systemd-logind (lingering alone is not enough)",
        )


def fenced(label: str, reply: Reply) -> Fenced:
    """The answer ``fenced`` as an error."""
    return Fenced(
        f"{label}: a newer controller (epoch {reply.word}) has taken over this run",
        hint="this one stops; follow the run with `runbook status`",
    )


def tell(link: Link, line: str) -> str:
    """One request whose answer is a status, asked once more when the session had died: only for
    requests that may be repeated. Raises Errored, and Fenced (a newer controller)."""
    label = link.name or "the controller"
    lost: SessionLost | None = None
    for _ in range(2):
        try:
            with link.session() as session:
                reply = session.request(line, FENCE_TIMEOUT)
            if reply.status == "fenced":
                raise fenced(label, reply)
            return reply.status
        except SessionLost as fault:
            lost = fault
        except RunnerRefused as fault:
            raise Errored(f"{label}: {fault}") from fault
    raise Errored(f"{label} does not answer ({lost})") from lost
