"""The runner sessions of one host: opened when needed, shared, first come, first served."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator

from runbook.errors import Errored
from runbook.transports.ssh.connection import ChannelsExhausted
from runbook.transports.ssh.session import RunnerRefused, Session


class SessionPool:
    """The runner sessions of one host. At most ``limit`` at once; who comes later waits.

    ``open_session`` raises Errored, SessionLost, or ChannelsExhausted when the host allows no
    further one: then what there is is shared.
    """

    def __init__(
        self, label: str, limit: int, open_session: Callable[[], Session],
        on_hello: Callable[[Session], None],
    ) -> None:
        self._label = label
        self._limit = limit
        self._open = open_session
        self._on_hello = on_hello
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._idle: list[Session] = []
        self._count = 0
        self._closed = False

    @contextlib.contextmanager
    def lease(self) -> Iterator[Session]:
        session = self._take()
        try:
            yield session
        except RunnerRefused:
            self._give(session)
            raise
        except BaseException:
            # An answer may still be under way: nobody else could tell it from their own.
            self._drop(session)
            raise
        self._give(session)

    def drop_idle(self) -> None:
        """Close the sessions nobody uses, e.g. to make room on the connection."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
            self._changed.notify_all()
        for session in idle:
            session.close()

    def close(self) -> None:
        with self._changed:
            self._closed = True
        self.drop_idle()

    def _take(self) -> Session:
        while True:
            found = self._turn()
            if found is not None:
                return found
            try:
                return self._opened()
            except ChannelsExhausted:
                with self._changed:
                    self._count -= 1
                    if self._count > 0 or self._idle:
                        self._limit = max(1, self._count)
                        continue
                raise Errored(
                    f"{self._label} refuses to open a session",
                    hint="see MaxSessions and ForceCommand of its sshd_config",
                ) from None
            except BaseException:
                with self._changed:
                    self._count -= 1
                    self._changed.notify_all()
                raise

    def _turn(self) -> Session | None:
        """Wait for an idle session, or for the right (None) to open one: first come, first
        served, or a long job that asks again and again would keep the others out."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            while not self._closed and (
                self._queue[0] is not ticket
                or (not self._idle and self._count >= self._limit)
            ):
                self._changed.wait()
            self._queue.remove(ticket)
            self._changed.notify_all()
            if self._closed:
                raise Errored(f"the connection to {self._label} has been closed")
            if self._idle:
                return self._idle.pop()
            self._count += 1
            return None

    def _opened(self) -> Session:
        session = self._open()
        try:
            self._on_hello(session)
        except BaseException:
            session.close()
            raise
        return session

    def _give(self, session: Session) -> None:
        with self._changed:
            if not session.closed and not self._closed:
                self._idle.append(session)
                self._changed.notify_all()
                return
        self._drop(session)

    def _drop(self, session: Session) -> None:
        session.close()
        with self._changed:
            self._count -= 1
            self._changed.notify_all()
