"""The kind ``haproxy.server``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.errors import Errored, Refused
from runbook.kinds._shared import Duration, Plain, tail, whose
from runbook.kinds.needs_common import Seen, need, place
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

State = Literal["ready", "drain", "maint"]

# A runtime command each; socat or nc, whichever the machine has.
_ASK = (
    "say() {{ if command -v socat >/dev/null; then socat -t 5 - {socket}; "
    "else nc -U -q 1 {socket}; fi; }}; "
)


class HaproxyServer(Kind):
    """Take servers of HAProxy out of traffic, drain them, or put them back, at run time.

    Over the runtime socket, in milliseconds and without a reload. `maint` also ends the sessions
    that are open to it, which would hang where it was fenced. With `grace` they are given that
    long to end by themselves first, while no new ones come; on the way back too, where that
    leads to `maint`. `servers` changes several with one command: what one gives up another one
    takes. A server that is `ready` must also take requests: one that its health check finds down,
    or whose weight is 0, fails the step. The state is gone when HAProxy is restarted; write it into
    its configuration too, where the move is to stay.

    Undone by the state it had.
    """

    name: ClassVar[str] = "haproxy.server"
    scope: ClassVar[Literal["host", "controller", "either"]] = "host"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.5
    poll: ClassVar[Poll | None] = Poll(every=0.1, timeout=10.0)
    example: ClassVar[str] = """\
- id: old-out
  kind: haproxy.server
  hosts: west and web
  with: {backend: app, server: east, state: maint}
"""

    backend: Plain = Field(min_length=1, description="The backend.")
    server: Plain | None = Field(default=None, min_length=1, description="The server in it.")
    state: State | None = Field(
        default=None, description="`ready`: takes requests; `drain`: no new ones; `maint`: none, "
        "and open sessions are ended.",
    )
    servers: dict[Plain, State] = Field(
        default_factory=dict, description="Several servers in place of `server` and `state`: "
        "`{east: maint, west: ready}`, changed in this order."
    )
    grace: Duration = Field(
        default=0.0, le=3600, description="How long open sessions may take to end by themselves "
        "before `maint` ends them.",
    )
    socket: Plain = Field(
        default="/run/haproxy/admin.sock", description="The runtime socket (`stats socket … "
        "level admin`)."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        single = (self.server is not None, self.state is not None)
        if any(single) == bool(self.servers) or len(set(single)) == 2:
            raise ValueError("give `server` and `state`, or `servers`")
        return self

    @property
    def _wanted(self) -> dict[str, State]:
        if self.server is None or self.state is None:
            return dict(self.servers)
        return {self.server: self.state}

    def observe(self, reads: Reads) -> Observation:
        done = reads.here.query(
            self._ask() + f"echo {shlex.quote(f'show servers state {self.backend}')} | say"
        )
        if done.exit_code != 0:
            raise Errored(
                f"HAProxy's socket {self.socket} does not answer ({done.stderr.strip()})",
                hint="is HAProxy running, may this user use its socket, is socat there?",
            )
        found: dict[str, str] = {}
        idle: dict[str, str] = {}
        for line in done.stdout.splitlines():
            fields = line.split()
            # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
            # srv_iweight srv_time_since_last_change srv_check_status srv_check_result
            # srv_check_health srv_check_state … (management guide, section 9.3).
            if len(fields) > 13 and fields[1] == self.backend and fields[3] in self._wanted:
                found[fields[3]] = _admin_state(int(fields[6]))
                if why := _takes_none(fields):
                    idle[fields[3]] = why
        missing = [name for name in self._wanted if name not in found]
        if missing:
            raise Refused(
                f"HAProxy has no server {self.backend}/{missing[0]}",
                hint=done.stdout.strip()[:200] or "see `show servers state`",
            )
        return Observation(state=found, evidence={**whose(reads), "idle": idle}, at=reads.now())

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A runtime socket of level admin, and socat or nc to speak to it."""
        here = reads.here

        def look() -> Seen:
            told = here.query(self._ask() + "echo 'show cli level' | say")
            level = told.stdout.strip()
            if told.exit_code != 0 or not level:
                raise Errored(tail(told.stderr) or f"{self.socket} does not answer")
            return Seen(level == "admin", f"its level is {level}", fact=level)

        return (need(
            f"{self.socket} lets us change servers", look, made_by=place(here),
            hint="`stats socket … level admin` in HAProxy's configuration; socat on the host",
        ),)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return tuple(f"{self.backend}/{name}: {seen.state[name]} → {state}"
                     for name, state in self._wanted.items() if seen.state[name] != state)

    def plan(self, before: Observation) -> Planned:
        changes = {n: s for n, s in self._wanted.items() if before.state[n] != s}
        if not changes:
            return Planned(reason=f"already done: {self._words(before)}")
        return Planned(actions=(self._set(before, changes),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        idle = after.evidence.get("idle", {})
        return Verdict(
            ok=all(after.state[n] == s and not (s == "ready" and n in idle)
                   for n, s in self._wanted.items()),
            seen=self._words(after),
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """In the reverse order."""
        changes = {n: before.state[n] for n, s in reversed(self._wanted.items())
                   if before.state.get(n) not in {None, s}}
        return (self._set(before, changes),) if changes else ()

    def _words(self, seen: Observation) -> str:
        idle = seen.evidence.get("idle", {})
        return ", ".join(
            f"{self.backend}/{n} is {seen.state[n]}"
            + (f", but {idle[n]}" if n in idle and seen.state[n] == "ready" else "")
            for n in self._wanted
        )

    def _set(self, before: Observation, changes: Mapping[str, str]) -> RunCommand:
        # One connection takes several commands with `;`.
        lines, script = [], self._ask()
        for server, state in changes.items():
            name = f"{self.backend}/{server}"
            lines.append(f"set server {name} state {state}")
            if state == "maint":
                lines.append(f"shutdown sessions server {name}")
                if self.grace:
                    script += self._let_end(server)
        return RunCommand(
            host=before.evidence.get("host"), idempotent=True,
            script=script + f"out=$(echo {shlex.quote('; '.join(lines))} | say) && "
            '{ [ -z "$(echo "$out" | tr -d "[:space:]")" ] || { echo "$out" >&2; exit 1; }; }',
        )

    def _let_end(self, server: str) -> str:
        """A script that waits, drained, until no session is open, or the grace is over."""
        # Of `show stat` the fields are pxname, svname, qcur, qmax, scur, …
        count = f"$1 == {_quoted(self.backend)} && $2 == {_quoted(server)} {{ print $5 }}"
        return (
            f"echo {shlex.quote(f'set server {self.backend}/{server} state drain')} | say\n"
            f"left={max(1, round(self.grace * 10))}\n"
            "while [ $left -gt 0 ]; do\n"
            f"  open=$(echo 'show stat' | say | awk -F, {shlex.quote(count)})\n"
            '  [ "$open" != 0 ] || break\n'
            "  sleep 0.1; left=$((left - 1))\n"
            "done\n"
        )

    def _ask(self) -> str:
        return _ASK.format(socket=shlex.quote(self.socket))

    def estimated(self) -> float:
        return self.estimate + (self.grace if "maint" in self._wanted.values() else 0.0)

    def estimated_undo(self) -> float:
        return self.estimate + (self.grace if self.state == "ready" else 0.0)


def _admin_state(bits: int) -> State:
    """0x01 is forced maintenance, 0x08 forced drain."""
    return "maint" if bits & 1 else "drain" if bits & 8 else "ready"


def _takes_none(fields: Sequence[str]) -> str:
    """Why a server would take no requests though it is ready; "": it takes some.

    Operational states 1 and 2 are starting (`slowstart`) and running. One that leaves `maint`
    counts as running before it was looked at: so a check that is enabled (0x04) must have a result,
    and none that is FAILED (2)."""
    running, weight, result, check = fields[5], fields[7], fields[11], int(fields[13])
    if running not in {"1", "2"} or (check & 4 and result == "2"):
        return "its health check finds it down"
    if check & 4 and result == "0":
        return "its health check has not passed yet"
    return "its weight is 0" if weight == "0" else ""


def _quoted(text: str) -> str:
    """A text of awk's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
