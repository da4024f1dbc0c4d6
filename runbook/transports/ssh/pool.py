"""All hosts of one run: reading them, and carrying out RunCommand and PutFile on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import paramiko

from runbook.errors import Errored, InDoubt, NotFound, Refused, RunbookError
from runbook.model.actions import ActionKey, ActionResult, PutFile, RunCommand
from runbook.model.endpoints import Endpoints
from runbook.model.inventory import Host, Inventory
from runbook.model.ports import Clock, HostReads, Progress, Resolution
from runbook.model.secrets import Redactor
from runbook.model.whereabouts import HostKey
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh import commands
from runbook.transports.ssh.connection import Connection, Connector, Place, Timeouts, Via
from runbook.transports.ssh.files import FilePutter
from runbook.transports.ssh.jobs import SILENCE, Found, JobRunner, Reconnect
from runbook.transports.ssh.link import (
    Link,
    LocalLink,
    RemoteLink,
    SpoolReplaced,
    check_logout,
    check_tools,
    tell,
)
from runbook.transports.ssh.output import OutputStream
from runbook.transports.ssh.protocol import Launch, job_name, kill_request, safe_name
from runbook.transports.ssh.reads import RunnerReads
from runbook.transports.ssh.session import RunnerRefused, Session, SessionLost

_OPENERS = 16


class SshPool:
    """Hosts by name, the controller as None. Thread-safe.

    ``on_open`` is told the marker of a host's spool when this run first has one there, before
    anything is launched (a host whose marker :meth:`expect_markers` named is not told again).
    """

    def __init__(
        self, inventory: Inventory, *, run_id: str, state_dir: Path, secrets: SecretStore,
        redactor: Redactor, clock: Clock, epoch: int = 0, endpoints: Endpoints | None = None,
        max_channels_per_host: int = 8, on_open: Callable[[str, str], None] | None = None,
        timeouts: Timeouts | None = None, reconnect: Reconnect | None = None,
    ) -> None:
        self._inventory = inventory
        self._run = safe_name(run_id)
        self._base = state_dir / "spool"
        self._outputs = state_dir / "runs" / run_id / "output"
        self._secrets = secrets
        self._redactor = redactor
        self._clock = clock
        self._epoch = epoch
        self._limit = max_channels_per_host
        self.on_open = on_open
        self._connector = Connector(
            inventory, endpoints=endpoints, timeouts=timeouts or Timeouts()
        )
        self._jumps = endpoints is None
        self._controller = endpoints.controller if endpoints else None
        self._closing = threading.Event()
        self._jobs = JobRunner(reconnect or Reconnect(), self._closing)
        self._files = FilePutter(self._jobs, secrets)
        self._lock = threading.Lock()
        self._links: dict[str | None, LocalLink | RemoteLink] = {}
        self._vantages: dict[str, RemoteLink] = {}
        self._expected: dict[str, str] = {}
        self._markers: dict[str, str] = {}
        self._marking = threading.Lock()
        self._greeted: set[str | None] = set()
        """Hosts on which a runner was started; others were only looked through."""
        self._performing: dict[str, threading.Lock] = {}

    # -- hosts ---------------------------------------------------------------------------------

    def host_reads(self, name: str | None) -> HostReads:
        """Raises NotFound for a name the inventory does not have."""
        return RunnerReads(
            self._link(name), secrets=self._secrets, redactor=self._redactor, clock=self._clock
        )

    def prepare(self, hosts: tuple[str, ...], run_as: Mapping[str, tuple[str, ...]]) -> None:
        """Open every host, make this run's spool there and prove each user. Raises Errored naming
        all that fail."""
        faults: list[RunbookError] = []
        with ThreadPoolExecutor(_OPENERS, thread_name_prefix="open-host") as openers:
            tasks = [
                openers.submit(self._prove, name, run_as.get(name, ()))
                for name in dict.fromkeys(hosts)
            ]
            for task in tasks:
                try:
                    task.result()
                except RunbookError as fault:
                    faults.append(fault)
        if len(faults) == 1:
            raise faults[0]
        if faults:
            raise Errored(
                f"{len(faults)} hosts cannot be used: " + "; ".join(f.message for f in faults),
                hint=" | ".join(dict.fromkeys(f.hint for f in faults if f.hint)),
            )

    def tunnel(self, host: str, dest_host: str, dest_port: int) -> paramiko.Channel:
        """A TCP connection to ``dest_host:dest_port`` made from ``host``. Raises Errored."""
        link = self._link(host)
        if not isinstance(link, RemoteLink):
            raise Refused("the controller needs no tunnel")
        return link.tunnel(dest_host, dest_port)

    def cut_next(self, host: str, on_cut: Callable[[], object]) -> None:
        """For rehearsals: the connection to a host breaks as soon as the next request to it has
        been sent, and ``on_cut`` is called. The request arrives, its answer does not."""
        link = self._link(host)
        if isinstance(link, RemoteLink):
            link.cut_next(on_cut)

    def vantage(
        self, host: str, dest_host: str, dest_port: int, timeout: float
    ) -> paramiko.Channel:
        """As :meth:`tunnel`, over a connection that nothing else uses: what asks all the time, and
        may hang, keeps no step waiting. Raises Errored."""
        with self._lock:
            link = self._vantages.get(host)
            if link is None:
                made = self._make(host)
                assert isinstance(made, RemoteLink)
                link = self._vantages[host] = made
        return link.tunnel(dest_host, dest_port, timeout)

    def place(self, name: str) -> Place:
        """Where a host is. Asks nobody. Raises Errored, NotFound."""
        return self._connector.place(self._host(name))

    def known_keys(self, name: str, also: Iterable[str] = ()) -> tuple[HostKey, ...]:
        """The host keys by which a host is known, also under further names. Raises Errored."""
        return self._connector.known_keys(self._host(name), also)

    def shown_keys(self, name: str) -> tuple[HostKey, ...]:
        """The host keys that a host shows. Nobody logs in on it, only on its jump hosts. Raises
        Errored."""
        host = self._host(name)
        return self._connector.shown_keys(host, self._via(host))

    def markers(self) -> dict[str, str]:
        """The markers of the spools known so far, by host name."""
        with self._lock:
            return dict(self._markers)

    def expect_markers(self, markers: Mapping[str, str]) -> None:
        """The markers that the journal holds. Where a host shows another one, its spool is not
        the one this run's jobs were started in, and a job not found there is *unknown*."""
        with self._lock:
            self._expected.update(markers)

    # -- actions -------------------------------------------------------------------------------

    def perform(
        self, action: RunCommand | PutFile, key: ActionKey, progress: Progress
    ) -> ActionResult:
        """Carry an action out under its key, at most once; attach to it if it was begun.

        Raises Errored (it never began), InDoubt, Fenced, and Refused (a secret out of place).
        """
        link = self._link(action.host)
        label, epoch = _label(link, key), max(self._epoch, key.epoch)
        with self._only(key), self._streams(key, progress) as (out, err, before):
            # Output files that are there already: an earlier controller may have launched it.
            begun = self._marker_of(action.host) if before else None
            try:
                if isinstance(action, PutFile):
                    return self._files.put(
                        link, action, key, epoch=epoch, out=out, err=err, label=label, begun=begun
                    )
                launch = commands.command_launch(action, key, link.host, self._secrets)
                start = self._clock.now()
                ended = self._jobs.run(
                    link, launch, epoch=epoch, out=out, err=err, label=label, begun=begun,
                    repeatable=action.idempotent,
                )
                took = max(0.0, self._clock.now() - start)
                return commands.command_result(action, ended, out, err, took)
            except Errored as fault:
                if before:
                    raise InDoubt(
                        f"{label}: {fault.message}; an earlier attempt under the same key may "
                        "have taken effect", hint=fault.hint,
                    ) from fault
                out.discard()
                err.discard()
                raise

    def resolve(self, action: RunCommand | PutFile, key: ActionKey) -> Resolution:
        """Find out what came of an action, launching nothing. A host that cannot be reached
        makes it ``unknown``. Raises NotFound for a host the inventory does not have."""
        link = self._link(action.host)
        label = _label(link, key)
        launch = Launch(job=job_name(key), hash=commands.digest(action), script="")
        try:
            found = self._jobs.look(link, launch)
            if found.ended is None:
                return self._judge(found, link, label)
            with self._streams(key, _silent) as (out, err, _):
                self._jobs.collect(link, launch, out, err)
                if isinstance(action, PutFile):
                    result = commands.put_result(action, found.ended, err)
                else:
                    result = commands.command_result(action, found.ended, out, err, None)
            return Resolution(outcome="done", result=result)
        except (Errored, SessionLost, RunnerRefused) as fault:
            return Resolution(outcome="unknown", detail=f"{label}: {fault}")

    def kill(self, action: RunCommand, key: ActionKey) -> None:
        """End a running command and all its processes: TERM, after five seconds KILL. Its
        performance then reports what became of it. Raises Errored."""
        link = self._link(action.host)
        secret = commands.password(link.host, action.run_as, self._secrets)
        tell(link, kill_request(
            max(self._epoch, key.epoch), job_name(key), commands.digest(action),
            action.run_as or "", secret,
        ))

    def fence(self, epoch: int) -> None:
        """Write the epoch on every open host, and on each opened later: launches of a
        controller with a lower one are refused there. Raises Errored."""
        with self._lock:
            self._epoch = max(self._epoch, epoch)
            links = list(self._links.values())
        for link in links:
            tell(link, f"fence {epoch}")

    def prune(self) -> None:
        """Remove the outputs of ended commands from every host opened: they are here, redacted,
        and their outcomes are journaled. Exit codes and saved files stay. Raises Errored."""
        links = self._with_runner()
        for link in links:
            tell(link, f"prune {self._epoch}")

    def tidy(self) -> None:
        """Remove this run's spool, saved files included, from every host opened. Raises
        Errored (not all could be asked) and Refused (a command still runs)."""
        links = self._with_runner()
        for link in links:
            if tell(link, f"tidy {self._epoch}") == "busy":
                raise Refused(
                    f"a command of this run still runs on {link.name or 'the controller'}",
                    hint="wait for it, or stop it, and tidy again",
                )
            with self._lock:
                self._links.pop(link.name, None)
                if link.name is not None:
                    self._markers.pop(link.name, None)
            link.close()

    def close(self) -> None:
        """Close every connection. What runs on the hosts goes on there."""
        self._closing.set()
        with self._lock:
            links = [*self._links.values(), *self._vantages.values()]
        for link in links:
            link.close()

    def _with_runner(self) -> list[LocalLink | RemoteLink]:
        with self._lock:
            return [link for name, link in self._links.items() if name in self._greeted]

    # -- inside --------------------------------------------------------------------------------

    def _prove(self, name: str, users: tuple[str, ...]) -> None:
        link = self._link(name)
        with link.session() as session:
            link.marked(session)
        reads = self.host_reads(name)
        for user in users:
            done = reads.query("true", run_as=user)
            if done.exit_code != 0:
                raise Errored(
                    f"{name}: cannot run commands as {user} ({done.stderr.strip()})",
                    hint="allow it in sudoers, or give the host `become:` with the secret of "
                    "its sudo password",
                )

    def _judge(self, found: Found, link: Link, label: str) -> Resolution:
        if found.status == "running":
            return Resolution(outcome="running", detail=f"{label} is still running")
        if found.status == "not_started":
            expected = self._marker_of(link.name)
            if expected and expected != found.marker:
                return Resolution(
                    outcome="unknown", detail=f"{label}: the host's spool is not the one of "
                    "this run (was the machine reinstalled?), so nobody can say whether it ran",
                )
            return Resolution(outcome="not_done", detail=f"{label} was never started")
        why = found.reason or "another command was started under the same key"
        return Resolution(outcome="unknown", detail=f"{label}: {why}")

    def _link(self, name: str | None) -> LocalLink | RemoteLink:
        with self._lock:
            found = self._links.get(name)
            if found is None:
                found = self._links[name] = self._make(name)
            return found

    def _make(self, name: str | None) -> LocalLink | RemoteLink:
        hello, mark = partial(self._opened, name), partial(self._marked, name)
        if name is None:
            return LocalLink(
                run=self._run, base=self._base, limit=self._limit, on_hello=hello, mark=mark,
                env=self._controller,
            )
        return RemoteLink(
            self._host(name), run=self._run, limit=self._limit, connect=self._connect,
            on_hello=hello, mark=mark,
        )

    def _host(self, name: str) -> Host:
        found = self._inventory.get(name)
        if found is None:
            raise NotFound(f"no host {name!r} in the inventory")
        return found

    def _connect(self, host: Host) -> Connection:
        return self._connector.open(host, self._via(host))

    def _via(self, host: Host) -> Via | None:
        """The way through its jump host; None: there is none. Raises Errored."""
        jump = host.jump
        if jump is None or not self._jumps:
            return None
        self._check_jumps(host)
        return lambda address, port: self.tunnel(jump, address, port)

    def _check_jumps(self, host: Host) -> None:
        seen = [host.name]
        following: Host | None = host
        while following is not None and following.jump is not None:
            if following.jump in seen:
                raise Errored(
                    "the jumps go round in a circle: " + " -> ".join([*seen, following.jump]),
                    hint="mend `jump:` in the inventory",
                )
            seen.append(following.jump)
            following = self._inventory.get(following.jump)

    def _opened(self, name: str | None, session: Session) -> None:
        """A runner has answered: is the host fit, is it the same as before, is it fenced?"""
        hello = session.hello
        check_tools(name or "the controller", hello)
        if name is not None:
            check_logout(name, hello)
        if hello.marker or self._known(name):
            self._marked(name, session)
        # Before the first controller of a run there was none to keep out.
        if self._epoch > max(hello.epoch, 1):
            try:
                session.request(f"fence {self._epoch}", SILENCE)
            except RunnerRefused as fault:
                raise Errored(f"{name or 'the controller'}: {fault}") from fault
        with self._lock:
            self._greeted.add(name)

    def _marked(self, name: str | None, session: Session) -> str:
        """As :meth:`Link.marked`: one spool, and the same one until the end of the run."""
        label = name or "the controller"
        try:
            marker = session.mark(SILENCE)
        except RunnerRefused as fault:
            raise Errored(
                f"{label}: {fault}", hint="the login needs a home it can write to"
            ) from fault
        except SessionLost as fault:
            raise Errored(f"{label} went silent before anything was started ({fault})") from fault
        if name is None or self._known(name) == marker:
            return marker
        with self._marking:
            before = self._known(name)
            if before not in {"", marker}:
                raise SpoolReplaced(
                    f"{name}: the spool of this run was removed or replaced since this controller "
                    "opened it; nothing was changed there",
                    hint="another controller may have ended the run and tidied up, or the machine "
                    "was reinstalled: look, and then `runbook resume`",
                )
            if not self._marker_of(name) and self.on_open is not None:
                self.on_open(name, marker)
            with self._lock:
                self._markers[name] = marker
                self._expected.setdefault(name, marker)
        return marker

    def _known(self, name: str | None) -> str:
        """The marker that this controller has seen there; "": none yet."""
        with self._lock:
            return self._markers.get(name, "") if name is not None else ""

    def _marker_of(self, name: str | None) -> str:
        with self._lock:
            return self._expected.get(name, "") if name is not None else ""

    @contextmanager
    def _only(self, key: ActionKey) -> Iterator[None]:
        """One performance of a key at a time in this process: they share its output files."""
        with self._lock:
            lock = self._performing.setdefault(str(key), threading.Lock())
        with lock:
            yield

    @contextmanager
    def _streams(
        self, key: ActionKey, progress: Progress
    ) -> Iterator[tuple[OutputStream, OutputStream, bool]]:
        """The output files, and whether they were there before."""
        stem = self._outputs / job_name(key)
        paths = [stem.with_name(f"{stem.name}.{end}") for end in ("out", "err")]
        before = any(path.exists() for path in paths)
        with (
            OutputStream(paths[0], self._redactor, progress) as out,
            OutputStream(paths[1], self._redactor, progress) as err,
        ):
            yield out, err, before


def _label(link: Link, key: ActionKey) -> str:
    return f"{key.node} on {link.name or 'the controller'}"


def _silent(line: str) -> None:
    """Output of what ended before is not news."""
