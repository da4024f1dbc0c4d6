"""Reading one host: queries, files, services. Nothing here changes anything."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping

from runbook.errors import Errored
from runbook.model.inventory import Host
from runbook.model.ports import Clock, CommandResult, FileState, ServiceState
from runbook.model.secrets import Redactor
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh.commands import environment, limit, password, refuse_marks
from runbook.transports.ssh.jobs import SILENCE
from runbook.transports.ssh.link import Link
from runbook.transports.ssh.protocol import QUERY_LIMIT, Reply, plain_request
from runbook.transports.ssh.session import RunnerRefused, SessionLost

_FILE_TIMEOUT = 300.0

_FILE = """\
export LC_ALL=C
p={path}
stat -c '%F|%s|%a|%U|%G' -- "$p" || exit 1
if [ -L "$p" ]; then readlink -- "$p" | sha256sum
elif [ -f "$p" ]; then sha256sum <"$p" || exit 2
fi
"""

_SERVICE = """\
export LC_ALL=C
command -v systemctl >/dev/null || {{ echo "there is no systemctl" >&2; exit 3; }}
a=$(systemctl is-active {name} 2>&1)
e=$(systemctl is-enabled {name} 2>&1)
printf '%s\\n' "$a" "--" "$e"
"""

_KINDS = {
    "regular file": "file", "regular empty file": "file", "directory": "directory",
    "symbolic link": "link",
}
_ABSENT = ("No such file or directory", "Not a directory")
_ACTIVE = {"active", "reloading", "activating", "deactivating", "refreshing"}
_ACTIVE_WORDS = _ACTIVE | {"inactive", "failed", "unknown", "maintenance"}
_ENABLED = {"enabled", "enabled-runtime", "alias"}
_UNIT_WORDS = _ENABLED | {
    "disabled", "static", "linked", "linked-runtime", "masked", "masked-runtime", "indirect",
    "generated", "transient", "bad",
}
_KILLED = {124, 137, 143}
"""Exit codes of a command that timeout(1) ended."""


class RunnerReads:
    """Implements :class:`runbook.model.ports.HostReads` over a link."""

    def __init__(
        self, link: Link, *, secrets: SecretStore, redactor: Redactor, clock: Clock
    ) -> None:
        self._link = link
        self._secrets = secrets
        self._redactor = redactor
        self._clock = clock

    @property
    def host(self) -> Host | None:
        return self._link.host

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        """As the port says. Raises Errored (no answer; not ended in time; more than 16 MiB of
        output) and Refused (a secret in the command's text)."""
        refuse_marks("a command", command, cwd, run_as)
        seconds = limit(timeout)
        line = plain_request(
            command, limit=seconds, user=run_as or "", cwd=cwd or "",
            password=password(self._link.host, run_as, self._secrets),
            exports=environment(dict(env or {}), self._secrets),
        )
        start, real_start = self._clock.now(), time.monotonic()
        reply = self._ask(line, seconds)
        code = int(reply.word)
        if code in _KILLED and time.monotonic() - real_start >= seconds:
            raise Errored(
                f"{self._name}: `{_shown(command)}` did not end within {seconds} s",
                hint="it only reads; it was killed and nothing was changed",
            )
        if max(len(reply.out), len(reply.err)) >= QUERY_LIMIT:
            raise Errored(f"{self._name}: `{_shown(command)}` printed more than 16 MiB")
        return CommandResult(
            exit_code=code, stdout=self._text(reply.out), stderr=self._text(reply.err),
            duration=max(0.0, self._clock.now() - start),
        )

    def file(self, path: str, *, run_as: str | None = None) -> FileState:
        """The file itself, links not followed (a link's digest is of its target's text)."""
        done = self.query(
            _FILE.format(path=shlex.quote(path)), timeout=_FILE_TIMEOUT, run_as=run_as
        )
        if done.exit_code == 1 and any(text in done.stderr for text in _ABSENT):
            return FileState(exists=False)
        lines = done.stdout.splitlines()
        if done.exit_code != 0 or not lines:
            raise Errored(
                f"{self._name}: {path} cannot be read ({done.stderr.strip() or done.exit_code})"
            )
        kind, size, mode, owner, group = lines[0].split("|")
        return FileState(
            exists=True, kind=_KINDS.get(kind, "other"), size=int(size), mode=int(mode, 8),
            owner=owner, group=group, sha256=lines[1].split()[0] if len(lines) > 1 else "",
        )

    def service(self, name: str, *, run_as: str | None = None) -> ServiceState:
        """By systemctl(1): ``is-active`` and ``is-enabled``."""
        done = self.query(_SERVICE.format(name=shlex.quote(name)), run_as=run_as)
        if done.exit_code != 0:
            raise Errored(f"{self._name}: service {name}: {done.stderr.strip()}")
        first, _, second = done.stdout.partition("--\n")
        active, enabled = first.strip(), second.strip()
        if active not in _ACTIVE_WORDS:
            raise Errored(f"{self._name}: service {name}: {active or 'no answer'}")
        known = enabled in _UNIT_WORDS
        return ServiceState(
            exists=known or active in _ACTIVE, active=active in _ACTIVE,
            enabled=enabled in _ENABLED,
        )

    def _ask(self, line: str, timeout: float) -> Reply:
        """A query may be repeated: a session that had died unnoticed is worth one more."""
        for last in (False, True):
            try:
                with self._link.session() as session:
                    return session.request(line, timeout + SILENCE)
            except SessionLost as fault:
                if last:
                    raise Errored(f"{self._name} does not answer ({fault})") from fault
            except RunnerRefused as fault:
                raise Errored(f"{self._name}: {fault}") from fault
        raise AssertionError("unreachable")

    @property
    def _name(self) -> str:
        return self._link.name or "the controller"

    def _text(self, data: bytes) -> str:
        return self._redactor.data(data).decode("utf-8", "replace")


def _shown(command: str) -> str:
    first = command.strip().splitlines()[0] if command.strip() else ""
    return first if len(first) <= 60 else first[:57] + "..."
