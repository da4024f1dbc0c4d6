"""Opening a host: fabric finds out how (ssh_config, agent, keys, jumps) and logs in; what it
leaves open is closed here.

| fabric or paramiko as they come | here |
|---|---|
| any host key is accepted, on gateways too | every hop is checked against known_hosts |
| TCP_NODELAY off | on |
| a silent peer is never noticed | keepalive + TCP_USER_TIMEOUT (tcp(7)) |
| opening a channel waits up to an hour | every opening has its own timeout |
| an unopened connection is not thread-safe | the caller holds a lock for each host |
| channels refused at once get each other's reasons | one is opened at a time |
| two system calls to read the two parts of a packet | what has arrived is read at once |
| `Connection.run` reads output in square time | not used: channels are read directly |
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from runbook.errors import Errored
from runbook.model.endpoints import Endpoints
from runbook.model.inventory import Host, Inventory
from runbook.model.whereabouts import HostKey
from runbook.transports.ssh.faults import dropped, opening_fault
from runbook.transports.ssh.known_hosts import (
    SYSTEM_FILES,
    USER_FILES,
    KnownHosts,
    fingerprint,
)
from runbook.transports.ssh.sockets import ReadAhead, tune

T = TypeVar("T")

# paramiko reports every fault twice, as an exception and to a log; the exception is enough.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Asked for first (RFC 5647): one operation a packet, where paramiko's own first choice needs a
cipher and a MAC computed in Python."""

Via = Callable[[str, int], paramiko.Channel]
"""Opens a channel to an address and port from an inventory host that was opened before."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``silence`` is how long sent data may stay unacknowledged (TCP_USER_TIMEOUT)."""

    connect: float = 10.0
    auth: float = 15.0
    channel: float = 10.0
    keepalive: int = 10
    silence: float = 20.0
    throttled: float = 15.0
    """How long a server is asked again that drops connections before anybody has logged in."""


_FAMILIES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
)
"""Algorithms by the key they are for: a server shows one key in a handshake."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host is, by the inventory and ssh_config."""

    address: str
    port: int
    gateway: str | None
    """Host name of the last machine on the way that ssh_config names (``ProxyJump``)."""
    command: bool
    """The way leads through a command (``ProxyCommand``)."""


class ChannelsExhausted(Exception):
    """The server opens no further session on this connection (MaxSessions, sshd_config(5))."""


class Connection:
    """One open, authenticated SSH connection."""

    def __init__(self, client: Any, gateways: list[Any], timeouts: Timeouts) -> None:
        self._client = client
        self._gateways = gateways
        self._timeouts = timeouts
        # paramiko keeps the reason of a refused opening on the transport: two refused at once
        # would get each other's.
        self._opening = threading.Lock()
        transport = client.get_transport()
        assert isinstance(transport, paramiko.Transport)
        self.transport = transport
        self.transport.set_keepalive(timeouts.keepalive)

    @property
    def alive(self) -> bool:
        return self.transport.is_active()

    def session(self) -> paramiko.Channel:
        """A new session channel. Raises ChannelsExhausted, or OSError/EOFError/SSHException."""
        try:
            with self._opening:
                return self.transport.open_session(timeout=self._timeouts.channel)
        except paramiko.ChannelException as fault:
            raise ChannelsExhausted(str(fault)) from fault

    def tunnel(
        self, address: str, port: int, timeout: float | None = None
    ) -> paramiko.Channel:
        """A connection made from that host. Raises ChannelException where it is refused, and
        TimeoutError where nothing is heard of it and this connection itself is not known dead."""
        limit = self._timeouts.channel if timeout is None else timeout
        with self._opening:
            began = time.monotonic()
            try:
                return self.transport.open_channel(
                    "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=limit
                )
            except paramiko.ChannelException:
                raise
            except paramiko.SSHException as fault:
                if self.alive and time.monotonic() - began >= limit:
                    raise TimeoutError(f"no answer within {limit:g} s") from fault
                raise

    def abort(self) -> None:
        """End it as a network does that is cut: no goodbye, and what was sent is on its way."""
        sock: Any = self.transport.sock
        with contextlib.suppress(OSError):  # The other end was faster.
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.close()
        self.transport.join(self._timeouts.channel)
        for gateway in self._gateways:
            gateway.close()


class Connector:
    """Opens the hosts of one inventory. Reads configuration and known hosts once, when first
    needed. With ``endpoints`` nothing but its table is used: no ssh_config, no agent, no keys
    of the user's own, no jumps."""

    def __init__(
        self, inventory: Inventory, *, endpoints: Endpoints | None, timeouts: Timeouts
    ) -> None:
        self._inventory = inventory
        self._endpoints = endpoints
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._pause = threading.Event()
        """Never set: a pause is a pause."""
        self._config: Any = None
        self._known: dict[tuple[Path, ...], KnownHosts] = {}

    def open(self, host: Host, via: Via | None = None) -> Connection:
        """Raises HostKeyRefused or Errored; nothing has been sent to the host then but the
        attempt to log in.

        sshd drops connections at random while many others log in (``MaxStartups``,
        sshd_config(5)): such a one is made again, later and later.
        """
        return self._patiently(lambda: self._open(host, via))

    def place(self, host: Host) -> Place:
        """Asks nobody. Raises Errored."""
        with self._lock:
            connection = self._prepare(host, jumped=host.jump is not None)
        gateway = connection.gateway
        command = isinstance(gateway, str)
        return Place(
            address=connection.host, port=int(connection.port),
            gateway=gateway.host if gateway and not command else None, command=command,
        )

    def known_keys(self, host: Host, also: Iterable[str] = ()) -> tuple[HostKey, ...]:
        """The host keys that known_hosts files hold of a host, under its name, its alias and the
        further names ``also``. Raises Errored."""
        with self._lock:
            connection = self._prepare(host, jumped=True)
            known = self._known_hosts(connection.ssh_config)
        names = [_known_as(connection)]
        names += [(name, int(connection.port)) for name in (connection.host, host.address, *also)]
        return tuple(dict.fromkeys(
            HostKey(kind=entry.key_type, fingerprint=fingerprint(entry.key))
            for name, port in names for entry in known.keys(name, port)
        ))

    def shown_keys(self, host: Host, via: Via | None = None) -> tuple[HostKey, ...]:
        """The host keys that a host shows, one of each kind, as ssh-keyscan(1) asks for them:
        nobody logs in there, only on the hosts on the way. Raises Errored."""
        found = [
            key for family in _FAMILIES
            if (key := self._patiently(partial(self._shown, host, via, family))) is not None
        ]
        if not found:
            raise Errored(f"{host.name} shows no host key of a kind that is known here")
        return tuple(found)

    def _shown(self, host: Host, via: Via | None, family: tuple[str, ...]) -> HostKey | None:
        with self._lock:
            connection = self._prepare(host, jumped=via is not None)
        transport: paramiko.Transport | None = None
        try:
            transport = paramiko.Transport(self._dial(connection, via))
            transport.banner_timeout = self._timeouts.auth
            offered = transport.get_security_options()
            offered.key_types = tuple(one for one in family if one in offered.key_types)
            transport.start_client(timeout=self._timeouts.auth)
            key = transport.get_remote_server_key()
            return HostKey(kind=key.get_name(), fingerprint=fingerprint(key.asbytes()))
        except IncompatiblePeer:
            return None
        except BaseException as fault:
            told = opening_fault(host, connection, fault)
            if told is None:
                raise
            raise told from fault
        finally:
            if transport is not None:
                transport.close()
            for hop in _chain(connection):
                hop.close()

    def _dial(self, connection: Any, via: Via | None) -> Any:
        """What an SSH handshake can be made over."""
        if via is not None:
            return via(connection.host, connection.port)
        if connection.gateway:
            return connection.open_gateway()
        return socket.create_connection(
            (connection.host, int(connection.port)), self._timeouts.connect
        )

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Again, later and later, while the server drops connections."""
        end = time.monotonic() + self._timeouts.throttled
        pause = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except Errored as fault:
                if not dropped(fault.__cause__) or time.monotonic() + pause > end:
                    raise
            # Not all at the same moment again.
            self._pause.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _open(self, host: Host, via: Via | None) -> Connection:
        with self._lock:
            connection = self._prepare(host, jumped=via is not None)
        chain = _chain(connection)
        try:
            if via is not None:
                connection.connect_kwargs["sock"] = via(connection.host, connection.port)
            for hop in reversed(chain):
                hop.open()
        except BaseException as fault:
            for hop in chain:
                hop.close()
            told = opening_fault(host, connection, fault)
            if told is None:
                raise
            raise told from fault
        return Connection(connection.client, chain[1:], self._timeouts)

    def _prepare(self, host: Host, *, jumped: bool) -> Any:
        import fabric

        if self._endpoints is not None:
            return self._redirected(host)
        options = {"key_filename": [str(Path(host.identity).expanduser())]} if host.identity else {}
        connection = fabric.Connection(
            host.address, user=host.user, port=host.port, config=self._configuration(),
            gateway=False if jumped else None, connect_timeout=round(self._timeouts.connect),
            connect_kwargs=options,
        )
        for hop in _chain(connection):
            self._harden(hop, host.name, self._known_hosts(hop.ssh_config))
        return connection

    def _redirected(self, host: Host) -> Any:
        import fabric

        assert self._endpoints is not None
        found = self._endpoints.ssh.get(host.name)
        if found is None:
            raise Errored(f"no host {host.name!r} in this sandbox")
        connection = fabric.Connection(
            found.address, user=found.user, port=found.port, gateway=False,
            config=fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True),
            connect_timeout=round(self._timeouts.connect),
            connect_kwargs={
                "key_filename": [found.identity], "allow_agent": False, "look_for_keys": False,
            },
        )
        self._harden(connection, host.name, self._files((), (Path(found.known_hosts),)))
        return connection

    def _harden(self, hop: Any, label: str, known: KnownHosts) -> None:
        """Put our own host key check, socket options and timeouts under a fabric connection."""
        name, port = _known_as(hop)
        hop.client.set_missing_host_key_policy(_Check(known, name, port, label))
        wanted = known.algorithms(name, port)

        def transport(sock: Any, **options: Any) -> paramiko.Transport:
            if isinstance(sock, socket.socket):
                tune(sock, self._timeouts.silence)
                sock = ReadAhead(sock)
            made = paramiko.Transport(sock, **options)
            offered = made.get_security_options()
            first = [item for item in wanted if item in offered.key_types]
            offered.key_types = (*first, *(i for i in offered.key_types if i not in first))
            quick = [cipher for cipher in _CIPHERS if cipher in offered.ciphers]
            offered.ciphers = (*quick, *(i for i in offered.ciphers if i not in quick))
            return made

        # A dict of its own: fabric may have handed out the one of its shared configuration.
        hop.connect_kwargs = {
            "banner_timeout": self._timeouts.auth,
            "auth_timeout": self._timeouts.auth,
            **dict(hop.connect_kwargs),
            "channel_timeout": self._timeouts.channel,
            "transport_factory": transport,
        }

    def _configuration(self) -> Any:
        import fabric

        if self._config is None:
            path = self._inventory.ssh_config
            if path is not None and not Path(path).expanduser().is_file():
                raise Errored(
                    f"the ssh_config file {path} does not exist",
                    hint="mend `ssh_config:` of the inventory; nothing was touched",
                )
            chosen = str(Path(path).expanduser()) if path else None
            self._config = fabric.Config(runtime_ssh_path=chosen)
            _spare_own_name(self._config.base_ssh_config)
        return self._config

    def _known_hosts(self, ssh_config: dict[str, Any]) -> KnownHosts:
        files: list[Path] = []
        for option, default in (
            ("userknownhostsfile", USER_FILES), ("globalknownhostsfile", SYSTEM_FILES),
        ):
            named = str(ssh_config.get(option, "")).split()
            files += [Path(item) for item in named if item != "none"] if named else default
        return self._files(tuple(files), tuple(Path(p) for p in self._inventory.known_hosts))

    def _files(self, files: tuple[Path, ...], required: tuple[Path, ...]) -> KnownHosts:
        key = (*files, Path(), *required)
        if key not in self._known:
            self._known[key] = KnownHosts(files, required=required)
        return self._known[key]


def _spare_own_name(config: paramiko.SSHConfig) -> None:
    """Do not look up this machine's own full name, the token ``%l`` (ssh_config(5)), where no
    option uses it: paramiko does so for every host, for seconds each where nobody knows it."""
    if "%l" not in repr(config._config):  # type: ignore[attr-defined]
        tokens = config.TOKENS_BY_CONFIG_KEY.items()
        config.TOKENS_BY_CONFIG_KEY = {
            key: [token for token in allowed if token != "%l"] for key, allowed in tokens
        }


def _known_as(hop: Any) -> tuple[str, int]:
    """Name and port under which known_hosts files hold the keys of a fabric connection's host."""
    alias = hop.ssh_config.get("hostkeyalias")
    return (alias, 22) if alias else (hop.host, int(hop.port))


class _Check(paramiko.MissingHostKeyPolicy):
    """paramiko knows no keys at all here, so each one is judged by us."""

    def __init__(self, known: KnownHosts, name: str, port: int, label: str) -> None:
        self._known, self._name, self._port, self._label = known, name, port, label

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        self._known.check(self._name, self._port, key.get_name(), key.asbytes(), self._label)


def _chain(connection: Any) -> list[Any]:
    """The connection and the gateways before it, nearest to the host first."""
    chain = [connection]
    while chain[-1].gateway and not isinstance(chain[-1].gateway, str):
        chain.append(chain[-1].gateway)
    return chain
