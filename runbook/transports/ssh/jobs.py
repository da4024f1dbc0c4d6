"""Running one job on one host, at most once, through lost connections and dead controllers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from runbook.errors import Errored, HostKeyRefused, InDoubt
from runbook.transports.ssh.link import Link, SpoolReplaced, fenced
from runbook.transports.ssh.output import OutputStream
from runbook.transports.ssh.protocol import CHUNK, Launch, Reply, forget_request, wait_request
from runbook.transports.ssh.session import RunnerRefused, SessionLost

SILENCE = 25.0
"""Seconds without an answer, beyond those asked for, after which a session counts as lost."""

_FIRST_WAIT, _LONGEST_WAIT = 1, 5

_LOST = {
    "lost_reboot": "the machine was restarted while the command ran",
    "lost": "the command's supervisor was killed and left no exit code",
    "orphan": "the command's supervisor was killed; the command itself still runs",
}


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long a lost host is tried again: pauses grow from ``first`` to ``longest`` seconds,
    for ``patience`` seconds of waiting in all."""

    patience: float = 60.0
    first: float = 0.2
    longest: float = 5.0

    def pauses(self) -> Iterator[float]:
        spent, pause = 0.0, self.first
        while spent < self.patience:
            yield pause
            spent += pause
            pause = min(pause * 2, self.longest)


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, or (``code`` None) had no input and did not begin."""

    code: int | None
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a host says about a job: ``not_started``, ``running``, ``exit``, ``lost`` (with the
    reason), ``conflict``; ``marker`` is of the spool it was looked for in ("": there is none)."""

    status: str
    marker: str
    ended: Ended | None = None
    reason: str = ""


class JobRunner:
    """Launches jobs and follows them to their end.

    ``closing`` interrupts the pauses between attempts to reach a host again.
    """

    def __init__(self, reconnect: Reconnect, closing: threading.Event) -> None:
        self._reconnect = reconnect
        self._closing = closing

    def run(
        self, link: Link, launch: Launch, *, epoch: int, out: OutputStream, err: OutputStream,
        label: str, begun: str | None = None, repeatable: bool = False,
    ) -> Ended:
        """Launch, or attach to what was launched before under the same name, and wait.

        ``begun``: an earlier controller may have launched it; the marker of the spool it used
        ("" where that is not known). ``repeatable``: a lost job is launched once more.

        Raises Errored (it never began), InDoubt (it may have), Fenced (a newer controller).
        """
        return _Following(
            link, launch, epoch, out, err, label, begun, repeatable, self
        ).to_the_end()

    def look(self, link: Link, launch: Launch) -> Found:
        """What became of a job; launches nothing. Raises Errored or SessionLost."""
        with link.session() as session:
            marker = session.hello.marker
            reply = session.request(wait_request(launch.job, launch.hash, 0, _PAST), SILENCE)
        if reply.status in _LOST:
            return Found("lost", marker, reason=_LOST[reply.status])
        ended = _ended(reply) if reply.status == "exit" else None
        return Found(reply.status, marker, ended)

    def collect(self, link: Link, launch: Launch, out: OutputStream, err: OutputStream) -> None:
        """Fetch the output of a job that has ended. Raises Errored or SessionLost."""
        while True:
            with link.session() as session:
                reply = session.request(
                    wait_request(launch.job, launch.hash, 0, (out.offset, err.offset)), SILENCE
                )
            out.feed(reply.out)
            err.feed(reply.err)
            if not _more(reply):
                out.finish()
                err.finish()
                return

    def pauses(self) -> Iterator[None]:
        """One item for each further attempt worth making."""
        for seconds in self._reconnect.pauses():
            if self._closing.wait(seconds):
                return
            yield None


_PAST = (2**62, 2**62)
"""Offsets behind every output: the state alone is asked for."""


class _Following:
    """One job on its way; only :class:`JobRunner` makes these."""

    def __init__(
        self, link: Link, launch: Launch, epoch: int, out: OutputStream, err: OutputStream,
        label: str, begun: str | None, repeatable: bool, runner: JobRunner,
    ) -> None:
        self.link, self.launch, self.epoch = link, launch, epoch
        self.out, self.err, self.label = out, err, label
        self.marker = begun or ""
        self.maybe_begun = begun is not None
        self.repeatable = repeatable
        self.runner = runner
        self.wait = _FIRST_WAIT
        self.launched = False

    def to_the_end(self) -> Ended:
        pauses = self.runner.pauses()
        while True:
            try:
                while True:
                    reply = self._ask()
                    pauses = self.runner.pauses()
                    ended = self._take(reply)
                    if ended is not None:
                        self.out.finish()
                        self.err.finish()
                        return ended
            except SessionLost as fault:
                self._again(pauses, str(fault), fault)
            except RunnerRefused as fault:
                if self.maybe_begun:
                    raise self._doubt(str(fault)) from fault
                raise Errored(f"{self.label}: {fault}; nothing was started") from fault
            except (HostKeyRefused, SpoolReplaced) as fault:
                if self.maybe_begun:
                    raise self._doubt(fault.message) from fault
                raise
            except Errored as fault:
                if not self.maybe_begun:
                    raise
                self._again(pauses, fault.message, fault)

    def _ask(self) -> Reply:
        """One request: the launch until it has been answered, then waits."""
        offsets = (
            _PAST[0] if self.launch.keeps_output else self.out.offset, self.err.offset
        )
        with self.link.session() as session:
            if self.launched:
                line = wait_request(self.launch.job, self.launch.hash, self.wait, offsets)
            else:
                marker = self.link.marked(session)
                if self.marker and self.marker != marker:
                    raise self._doubt(
                        "the host's spool is not the one this was started in (was the machine "
                        "reinstalled?)"
                    )
                self.marker = marker
                line = self.launch.request(self.epoch, marker, self.wait, offsets)
                self.maybe_begun, before = True, self.maybe_begun
            try:
                reply = session.request(line, self.wait + SILENCE)
            except RunnerRefused:
                if not self.launched:
                    self.maybe_begun = before
                raise
        return reply

    def _take(self, reply: Reply) -> Ended | None:
        """Use an answer; None when the job goes on."""
        self.out.feed(reply.out)
        self.err.feed(reply.err)
        status = reply.status
        if status == "exit":
            self.launched = True
            self.wait = 0
            return None if _more(reply) else _ended(reply)
        if status == "running":
            self.launched = True
            self.wait = 0 if _more(reply) else min(self.wait + 1, _LONGEST_WAIT)
            return None
        if status == "not_started":
            # It was answered for, and its supervisor never came to put it on record.
            self.launched = False
            return None
        if status == "no_input":
            return Ended(None)
        if status == "fenced":
            raise fenced(self.label, reply)
        if status in _LOST:
            if self.repeatable and status != "orphan":
                self._forget()
                return None
            raise self._cut_short(_LOST[status])
        if status == "conflict":
            raise self._doubt("another command was started under the same key")
        raise self._doubt(f"the host's spool was replaced or removed meanwhile ({status})")

    def _forget(self) -> None:
        with self.link.session() as session:
            reply = session.request(forget_request(self.epoch, self.launch.job), SILENCE)
        if reply.status == "fenced":
            raise fenced(self.label, reply)
        self.launched = False
        self.out.restart()
        self.err.restart()

    def _again(self, pauses: Iterator[None], why: str, fault: Exception) -> None:
        for _ in pauses:
            return
        raise self._doubt(f"the connection was lost and does not come back ({why})") from fault

    def _doubt(self, why: str) -> InDoubt:
        return InDoubt(
            f"{self.label}: {why}; the command may be running, or have ended, on the host",
            hint=f"its spool is ~/.runbook/…/{self.launch.job} there; `runbook resume` attaches "
            "to it again and learns its exit code",
        )

    def _cut_short(self, why: str) -> InDoubt:
        return InDoubt(
            f"{self.label}: {why}; how far the command had come is unknown",
            hint="look at the host, then tell the run what became of it with `runbook resolve`",
        )


def _more(reply: Reply) -> bool:
    return len(reply.out) >= CHUNK or len(reply.err) >= CHUNK


def _ended(reply: Reply) -> Ended:
    code, _, timed_out = reply.word.partition(".")
    return Ended(int(code), bool(timed_out))
