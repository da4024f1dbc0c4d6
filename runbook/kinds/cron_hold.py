"""The kinds ``cron.hold`` and ``cron.release``."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runbook.errors import Errored, NotFound, Refused
from runbook.kinds._shared import Names, whose
from runbook.kinds.needs_common import folder_takes_files, units_can_be_managed
from runbook.model.actions import Action, RunCommand
from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import HostReads, Reads
from runbook.model.runbook import Poll

_SUFFIX = ".runbook-hold"
_DAEMONS = {"cron", "crond"}
# Debian and others; SUSE; Red Hat and others.
_SPOOLS = ("/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron")
_FIND_SPOOL = (
    f"for d in {' '.join(_SPOOLS)}; do if [ -d $d ]; then echo $d; exit 0; fi; done; exit 1"
)
_PROCESSES = "ps -eo pid=,ppid=,etimes=,comm=,user:64=,args="

# `away FILE` and `back FILE` are each one rename in one folder. Done already is as good as done.
_MOVES = """\
set -u
die() { printf '%s\\n' "$1" >&2; exit 1; }
there() { [ -e "$1" ] || [ -L "$1" ]; }
move() {
  if there "$1"; then
    there "$2" && die "both $1 and $2 are there: somebody made one anew; nothing was overwritten"
    mv -- "$1" "$2" || die "$1 cannot be renamed"
    sync -- "${1%/*}"
  else
    there "$2" || die "neither $1 nor $2 is there"
  fi
}
away() { move "$1" "${1%/*}/.${1##*/}""" + _SUFFIX + """\"; }
back() { move "${1%/*}/.${1##*/}""" + _SUFFIX + """\" "$1"; }
"""


def _in_cron_d(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Cron looks at the time of these folders, so a rename in them is noticed. It does not
    notice that `/etc/crontab` is gone."""
    for path in paths:
        if posixpath.basename(posixpath.dirname(path)) != "cron.d" or not path.startswith("/"):
            raise ValueError(
                f"{path!r} is not the path of a file in a `cron.d` folder; the crontab of a user "
                "is held with `users`"
            )
    return paths


def _timers(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name if name.endswith(".timer") else f"{name}.timer" for name in names)


class _Cron(Kind):
    """What both share: looking at crontabs and timers, and moving them."""

    scope: ClassVar[Literal["host", "controller", "either"]] = "host"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)

    def _seen(self, reads: Reads, paths: Iterable[str], timers: Iterable[str]) -> dict[str, Any]:
        """State: each crontab with where it is and what is in it, each timer with what it is."""
        here = reads.here
        return {
            "crontabs": {path: _crontab(here, path) for path in paths},
            "timers": {
                name: {"active": found.active, "enabled": found.enabled} if found.exists else None
                for name in timers for found in (here.service(name),)
            },
        }

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to rename in the folders of the crontabs, and to manage systemd's units."""
        if seen is None:
            return ()
        folders = dict.fromkeys(map(posixpath.dirname, seen.state["crontabs"]))
        found = [folder_takes_files(reads.here, folder) for folder in folders]
        if seen.state["timers"]:
            found.append(units_can_be_managed(reads.here))
        return tuple(found)

    def _run(self, before: Observation, lines: list[str]) -> tuple[Action, ...]:
        if not lines:
            return ()
        return (RunCommand(
            host=before.evidence.get("host"), script=_MOVES + "\n".join(lines), idempotent=True,
        ),)


class CronHold(_Cron):
    """Let cron start no jobs of users, of files in `/etc/cron.d`, and of systemd timers.

    A crontab is renamed in its own folder to `.NAME.runbook-hold`, a name cron never reads: one
    atomic step, and the file stays the same to the last byte. Cron looks at the time of the folder
    before every minute's jobs, so the next minute starts none. Timers are stopped and disabled.

    Jobs that are running are shown; with `wait: true` the step holds only once they have ended, for
    at most as long as its `poll:` says (a minute without one). They are all those that cron has
    started for the users concerned, and the services of the timers. What was started outside cron
    is not seen.

    A `cron.release` step has to follow, and may not be conditional or be left to fail: a plan
    without one is refused, so no run is complete while jobs are held. When the run goes back,
    everything is put back as it was; with `on_error: keep` it stays held, for a person to put
    back. A timer with `Persistent=true` makes up for what it missed as soon as it is released.
    """

    name: ClassVar[str] = "cron.hold"
    output_names: ClassVar[dict[str, str]] = {
        "crontabs": "paths of the crontabs that it holds",
        "timers": "timers that it holds, each with `active` and `enabled` as it was",
        "running": "jobs that were running when it was last looked, each in words",
    }
    example: ClassVar[str] = """\
- id: no-jobs
  kind: cron.hold
  hosts: east and app
  with: {users: shop, files: /etc/cron.d/shop-reports, timers: [shop-mail], wait: true}
  poll: {every: 5s, timeout: 15m}
- id: jobs-again
  kind: cron.release
  hosts: east and app
  with: {of: no-jobs}
"""

    users: Names = Field(default=(), description="Users whose crontab is held.")
    files: Annotated[Names, AfterValidator(_in_cron_d)] = Field(
        default=(), description="Files in a `cron.d` folder that are held, by their paths."
    )
    timers: Annotated[Names, AfterValidator(_timers)] = Field(
        default=(), description="Timers of systemd that are held."
    )
    missing: Literal["refuse", "ignore"] = Field(
        default="refuse", description="What to do about one that a host does not have."
    )
    wait: bool = Field(default=False, description="Wait until running jobs have ended.")
    on_error: Literal["restore", "keep"] = Field(
        default="restore", description="When the run goes back: put everything back, or leave it "
        "held.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.users or self.files or self.timers):
            raise ValueError("give `users`, `files` or `timers`")
        bad = [name for name in self.users if not re.fullmatch(r"[\w][\w.@-]*\$?", name)]
        if bad:
            raise ValueError(f"{bad[0]!r} is not the name of a user")
        return self

    def settled_by(self) -> str:
        return CronRelease.name

    def observe(self, reads: Reads) -> Observation:
        paths = list(self.files)
        if self.users:
            paths += [f"{_spool(reads.here)}/{user}" for user in self.users]
        state = self._seen(reads, paths, self.timers)
        users = set(self.users)
        for path in self.files:
            users |= _users_of(reads.here, path, state["crontabs"][path]["where"])
        running, unknown = _running(reads.here, users)
        running += [
            f"{unit}" for unit in (f"{name.removesuffix('.timer')}.service" for name in self.timers)
            if reads.here.service(unit).active
        ]
        evidence = whose(reads) | {"running": running}
        return Observation(state=state, evidence=evidence, unknown=unknown, at=reads.now())

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        free = [path for path, one in seen.state["crontabs"].items() if one["where"] == "in place"]
        free += [name for name, one in seen.state["timers"].items()
                 if one and (one["active"] or one["enabled"])]
        return tuple(f"{one}: starts jobs → held" for one in free)

    def plan(self, before: Observation) -> Planned:
        crontabs, timers = before.state["crontabs"], before.state["timers"]
        lost = [path for path, one in crontabs.items() if one["where"] == "nowhere"]
        lost += [name for name, one in timers.items() if one is None]
        if lost and self.missing == "refuse":
            raise Refused(
                f"not there: {', '.join(lost)}",
                hint="mend the name, or say `missing: ignore`",
            )
        _refuse_both(crontabs)
        lines = [f"away {shlex.quote(path)}" for path, one in crontabs.items()
                 if one["where"] == "in place"]
        lines += [_systemctl(name, active=False, enabled=False) for name, one in timers.items()
                  if one and (one["active"] or one["enabled"])]
        if not lines:
            return Planned(reason="already done: none of them can start a job")
        return Planned(actions=self._run(before, lines))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        running = after.evidence["running"]
        ours = _held(before.state, after.state)
        outputs = {**ours, "running": running}
        free = [path for path, one in after.state["crontabs"].items()
                if one["where"] in {"in place", "both"}]
        free += [name for name, one in after.state["timers"].items()
                 if one and (one["active"] or one["enabled"])]
        if free:
            return Verdict(
                ok=False, seen=f"not held: {', '.join(free)}", outputs=outputs, retry=False
            )
        held = len(after.state["crontabs"]) + len(after.state["timers"])
        now = f"running: {'; '.join(running)}" if running else "no job is running"
        if after.unknown:
            now = "; ".join(after.unknown)
        waits = self.wait and bool(running or after.unknown)
        told = f"{held} held; {now}"
        return Verdict(
            ok=not waits, seen=f"waited in vain for jobs: {told}" if waits else told,
            outputs=outputs, retry=not after.unknown,
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: each file under its name again, each timer as it was. What was held before
        stays held."""
        if self.on_error == "keep":
            return ()
        lines = [f"back {shlex.quote(path)}" for path, one in before.state["crontabs"].items()
                 if one["where"] == "in place"]
        lines += [_systemctl(name, **one) for name, one in before.state["timers"].items()
                  if one and (one["active"] or one["enabled"])]
        return self._run(before, lines)

    def preview(self) -> tuple[str, ...]:
        lines = [f"hold the crontab of {user}" for user in self.users]
        lines += [f"hold {path}" for path in self.files]
        lines += [f"stop and disable {name}" for name in self.timers]
        if self.wait:
            lines.append("wait until running jobs have ended")
        if self.on_error == "keep":
            lines.append("on the way back they stay held")
        return tuple(lines)


class CronRelease(_Cron):
    """Put back what a `cron.hold` step holds, so that jobs are started again.

    Only what that step itself has held, and exactly as it was. A crontab that somebody made anew
    meanwhile is never overwritten. Undone by holding again.
    """

    name: ClassVar[str] = "cron.release"
    example: ClassVar[str] = """\
- id: no-jobs
  kind: cron.hold
  hosts: east and app
  with: {users: shop}
- id: jobs-again
  kind: cron.release
  hosts: east and app
  with: {of: no-jobs}
"""

    of: str = Field(min_length=1, description="Id of the cron.hold step.")

    def references(self) -> tuple[str, ...]:
        return (self.of,)

    def observe(self, reads: Reads) -> Observation:
        held = _outputs_here(reads, self.of)
        state = self._seen(reads, held["crontabs"], held["timers"])
        return Observation(
            state=state, evidence=whose(reads) | {"timers": held["timers"]}, at=reads.now()
        )

    def plan(self, before: Observation) -> Planned:
        _refuse_both(before.state["crontabs"])
        lines = [f"back {shlex.quote(path)}" for path, one in before.state["crontabs"].items()
                 if one["where"] != "in place"]
        lines += [_systemctl(name, **one) for name, one in before.evidence["timers"].items()
                  if before.state["timers"][name] != one]
        if not lines:
            return Planned(reason="already done: nothing is held")
        return Planned(actions=self._run(before, lines))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        left = [path for path, one in after.state["crontabs"].items()
                if one["where"] != "in place"]
        left += [name for name, one in after.evidence["timers"].items()
                 if after.state["timers"][name] != one]
        if left:
            return Verdict(ok=False, seen=f"not as before: {', '.join(left)}", retry=False)
        count = len(after.state["crontabs"]) + len(after.state["timers"])
        return Verdict(ok=True, seen=f"{count} released")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        lines = [f"away {shlex.quote(path)}" for path, one in before.state["crontabs"].items()
                 if one["where"] == "held"]
        lines += [_systemctl(name, **one) for name, one in before.state["timers"].items() if one]
        return self._run(before, lines)

    def preview(self) -> tuple[str, ...]:
        return (f"put back what {self.of} holds",)


def _aside(path: str) -> str:
    folder, name = posixpath.split(path)
    return f"{folder}/.{name}{_SUFFIX}"


def _crontab(here: HostReads, path: str) -> dict[str, Any]:
    """``where`` it is (in place, held, both, nowhere), and the file that counts."""
    placed, held = here.file(path), here.file(_aside(path))
    where = {
        (True, False): "in place", (False, True): "held", (True, True): "both",
        (False, False): "nowhere",
    }[placed.exists, held.exists]
    one = placed if placed.exists else held
    if not one.exists:
        return {"where": where}
    return {"where": where, "sha256": one.sha256, "mode": f"{one.mode:04o}",
            "owner": one.owner, "group": one.group}


def _spool(here: HostReads) -> str:
    found = here.query(_FIND_SPOOL)
    if found.exit_code != 0 or not found.stdout.strip():
        raise Errored(
            "this host has no folder for the crontabs of users",
            hint=f"looked for {', '.join(_SPOOLS)}; they are root's (`run_as`)",
        )
    return found.stdout.strip()


def _users_of(here: HostReads, path: str, where: str) -> set[str]:
    """Whose jobs a file of `cron.d` has. Its text is looked at here and kept nowhere."""
    if where == "nowhere":
        return set()
    text = here.query(f"cat -- {shlex.quote(path if where != 'held' else _aside(path))}")
    if text.exit_code != 0:
        raise Errored(f"{path} cannot be read: {text.stderr.strip()}")
    users = set()
    for line in text.stdout.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#") or re.match(r"\s*\w+\s*=", line):
            continue
        place = 1 if fields[0].startswith("@") else 5
        users |= set(fields[place : place + 1])
    return users


def _running(here: HostReads, users: set[str]) -> tuple[list[str], tuple[str, ...]]:
    """Jobs that cron has started for these users, in words; and what could not be seen. A child of
    cron that has not yet become a job may become anybody's."""
    if not users:
        return [], ()
    told = here.query(_PROCESSES)
    if told.exit_code != 0:
        return [], ("which jobs are running cannot be seen: this ps knows no -o",)
    rows = [line.split(maxsplit=5) for line in told.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 6]
    daemons = {row[0] for row in rows if row[3] in _DAEMONS}
    busy = {row[1] for row in rows}
    starting = [
        f"a job that is just starting (process {row[0]})" for row in rows
        if row[0] in daemons - busy and row[1] in daemons
    ]
    return [
        f"{_program(args)} of {user} (process {pid}, for {format_duration(float(seconds))})"
        for pid, parent, seconds, comm, user, args in rows
        if parent in daemons and comm not in _DAEMONS and user in users
    ] + starting, ()


def _program(args: str) -> str:
    """What a job runs, and none of its arguments: they may hold what is nobody's business."""
    words = args.split()
    if "-c" in words[1:2]:
        words = [word for word in words[2:] if "=" not in word] or words
    return words[0]


def _held(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a step has held itself: it could start jobs before, and cannot now."""
    return {
        "crontabs": [
            path for path, one in after["crontabs"].items()
            if one["where"] == "held" and before["crontabs"][path]["where"] == "in place"
        ],
        "timers": {
            name: one for name, one in before["timers"].items()
            if one and one != after["timers"][name]
        },
    }


def _outputs_here(reads: Reads, step: str) -> Mapping[str, Any]:
    """What the hold gave on this host."""
    outputs = reads.outputs(step)
    host = whose(reads)["host"]
    if "by_host" in outputs:
        outputs = outputs["by_host"].get(host, {})
    if "crontabs" not in outputs or "timers" not in outputs:
        raise NotFound(
            f"the step {step!r} holds nothing on {host}",
            hint="`of` names a cron.hold step; both have the same `hosts:`",
        )
    return outputs


def _refuse_both(crontabs: Mapping[str, Any]) -> None:
    for path, one in crontabs.items():
        if one["where"] == "both":
            raise Refused(
                f"both {path} and {_aside(path)} are there: somebody made one anew",
                hint="keep the right one under the first name, remove the other, and retry",
            )


def _systemctl(name: str, *, active: bool, enabled: bool) -> str:
    unit = shlex.quote(name)
    return (f"systemctl {'enable' if enabled else 'disable'} {unit} && "
            f"systemctl {'start' if active else 'stop'} {unit} || exit 1")
