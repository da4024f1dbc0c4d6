"""A dead man's switch on a frozen server: it thaws by itself when its controller falls silent.

A small process on the server's own machine, in a session of its own, looks at the time of a file
that the controller touches. When that is older than the lease it *fires*: it renames the file
``armed`` to ``fired``, and only then thaws. Taking the switch away is the same rename to another
name, so either the one or the other happens, whatever the controller was doing at that moment.

The command that would thaw is executed once as the switch is set, before anything is frozen, when
it brings back what is there: a program, a login or a right that is missing is found then.

That process, the *watcher*, holds a lock. Each sign of life of the controller looks whether it is
held, and starts the watcher again where it is not: as long as a controller lives there is one, also
after a restart of the machine. A machine that restarts while no controller is there has none. What
starts by itself at boot (a unit, a crontab) would have to be put outside of our own folder, by a
user who may do so and with a service that is there; so that is left to people.
"""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._shared import Duration, tail
from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import packed, run_of, unpacked
from runbook.model.actions import Action, RunCommand
from runbook.model.database import Database
from runbook.model.kind import Kind
from runbook.model.need import Need, coming, in_database
from runbook.model.observation import Heartbeat, Irreversible, Observation
from runbook.model.ports import Reads

_PLACE = '"${HOME:-/tmp}/.runbook-switch/"'
_FIRED = 17
"""Exit status of taking away a switch that has fired."""

# One line each: `touch` and `mv` on one folder are atomic, and the clock is the machine's own. The
# lock is closed for whatever may outlive the watcher. A watcher that is started again goes on where
# the one before it was, also between `fired` and the end of the thaw.
_WATCH = """\
cd {place}{name} || exit 1
exec 8>lock
flock 8 8>&8 || exit 1
while [ -e armed ]; do
  now=$(date +%s)
  last=$(stat -c %Y alive 2>/dev/null) || last=0
  if [ $((now - last)) -gt {lease} ]; then
    mv armed fired 2>/dev/null || exit 0
    date +%s >fired
    sync fired .
    break
  fi
  sleep 0.2 8>&-
done
grep -qx thawed fired && exit 0
until [ ! -e fired ] || ({thaw}) 8>&-; do sleep 1 8>&-; done >>log 2>&1
[ ! -e fired ] || echo thawed >>fired
"""

# None of the files of who starts it: it outlives the connection.
_START = "setsid sh ./watch </dev/null >/dev/null 2>&1 8>&- 9>&- &"

_ARM = """\
set -e; umask 077
said=$(timeout 20 sh -c {thaw} 2>&1) || {{
  echo "the dead man's switch of {database} could not thaw it:" \
    "${{said:-exit code $?, after 20 s at most}}" >&2
  echo "Nothing is frozen. This is what it was tried with, as $(id -un): "{thaw} >&2
  exit 1; }}
rm -rf {place}{name}; mkdir -p {place}{name}; cd {place}{name}
printf %s {watch} >watch
: >alive; : >armed; sync watch alive armed .
{start}
tries=100
until [ -e lock ] && ! flock -n lock true; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || {{ echo "the watcher does not start. Nothing is frozen" >&2; exit 1; }}
  sleep 0.05
done
"""

_HEARTBEAT = """\
cd {place}{name} 2>/dev/null || exit 0
if [ -e armed ]; then touch -c alive
elif [ ! -e fired ] || grep -qx thawed fired; then exit 0
fi
[ -e lock ] && flock -n lock true || exit 0
{start}
echo "the dead man's switch of {database} had nobody who watches (was the machine restarted?):" \
  "started again"
"""


def _name(database: Database, run: str) -> str:
    """Of the switch's folder. A switch belongs to a run: what an earlier one left behind, fired or
    not, says nothing about this one."""
    return shlex.quote(f"{run}-{database.name}")


def arm(
    database: Database, run: str, lease: float, thaw: str, env: Mapping[str, str] | None = None
) -> RunCommand:
    """Set the switch, on a server that is as ``thaw`` makes it. That is a command that may be tried
    again until it succeeds, and is tried now; ``env`` is what it needs besides, such as a password
    (a secret's mark)."""
    name = _name(database, run)
    watch = _WATCH.format(place=_PLACE, name=name, lease=max(1, int(lease)), thaw=thaw)
    script = _ARM.format(
        place=_PLACE, name=name, database=database.name, thaw=shlex.quote(thaw),
        watch=shlex.quote(watch), start=_START,
    )
    return RunCommand(
        host=database.host, script=script, run_as=database.run_as, idempotent=True,
        env=dict(env or {}),
    )


def present(reads: Reads, database: Database, run: str) -> bool:
    """Whether there is a switch of this run, armed or fired: then it has to be taken away before
    another server is promoted. Raises Errored."""
    asked = f"[ -d {_PLACE}{_name(database, run)} ]"
    return reads.on(database.host).query(asked, run_as=database.run_as).exit_code == 0


def disarm(database: Database, run: str, *, as_root: bool = False) -> RunCommand:
    """Take the switch away; succeeds where there is none, and fails where it has fired.

    ``as_root``: without becoming the user whose switch it is, which takes its time.
    """
    name = _name(database, run)
    places = [_PLACE]
    if as_root:
        # Where that user's HOME is, or is not set: see _PLACE.
        places = [f"~{database.run_as}/.runbook-switch/", "/tmp/.runbook-switch/"]
    script = (
        " || ".join(f"cd {place}{name} 2>/dev/null" for place in places) + " || exit 0\n"
        'if mv armed disarmed 2>/dev/null; then rm -rf "$(pwd -P)"; exit 0; fi\n'
        "[ ! -e fired ] || {\n"
        f'  echo "the dead man\'s switch of {database.name} fired at $(head -n 1 fired): writes '
        f'came back there" >&2; exit {_FIRED}; }}\n'
    )
    return RunCommand(
        host=database.host, script=script, run_as=None if as_root else database.run_as,
        idempotent=True,
    )


def remove(database: Database, run: str) -> RunCommand:
    """Take the switch away on the way back, where it may have fired."""
    name = _name(database, run)
    return RunCommand(
        host=database.host, run_as=database.run_as, idempotent=True,
        script=f"cd {_PLACE}{name} 2>/dev/null || exit 0\nrm -rf {_PLACE}{name}\n",
    )


def heartbeat(
    database: Database, run: str, lease: float, env: Mapping[str, str] | None = None
) -> Heartbeat:
    """The sign of life: only while the switch is armed, so that none is left behind. It prints
    what people should know: that it had to start the watcher again, with ``env`` as :func:`arm`."""
    command = _HEARTBEAT.format(
        place=_PLACE, name=_name(database, run), database=database.name, start=_START
    )
    return Heartbeat(
        host=database.host, run_as=database.run_as, every=lease / 4, command=command,
        env=dict(env or {}),
    )


class Leased(Kind):
    """Base of the kinds that freeze: with ``lease`` they set a switch first."""

    @abstractmethod
    def asking(self, evidence: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        """A command that succeeds where the client that thaws may log in, and changes nothing; and
        the environment of both. ``evidence`` as :meth:`observe` gives it, with :meth:`leased`."""

    wants_heartbeat: ClassVar[bool] = True

    lease: Duration | None = Field(
        default=None, ge=4, description="How long the controller may be silent before writes "
        "come back by themselves, at least 4 s. Not given: they never do. What would thaw is tried "
        "before anything is frozen. As long as there is a controller, the switch is started again "
        "after a restart of its machine. Without one, a freeze that outlives the restart stays "
        "(PostgreSQL; Redis with `persist`) until another controller goes on or back."
    )

    def leased(self, reads: Reads, database: Database) -> dict[str, Any]:
        """Evidence that the methods below need."""
        return {} if self.lease is None else {"database": packed(database), "run": run_of(reads)}

    def armed(
        self, before: Observation, thaw: str, env: Mapping[str, str] | None = None
    ) -> tuple[Action, ...]:
        if self.lease is None:
            return ()
        database = unpacked(before.evidence["database"])
        return (arm(database, before.evidence["run"], self.lease, thaw, env),)

    def switch_needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """That whoever thaws may log in there; none without a lease."""
        if self.lease is None or seen is None:
            return ()
        database = unpacked(seen.evidence["database"])

        def look() -> Seen:
            command, env = self.asking(seen.evidence)
            told = reads.on(database.host).query(
                command, run_as=database.run_as, env=env, timeout=20.0
            )
            said = tail(told.stderr) or tail(told.stdout) or f"exit code {told.exit_code}"
            return Seen(told.exit_code == 0, "yes" if told.exit_code == 0 else said)

        return (need(
            f"{database.name} lets its dead man's switch in, on its own machine", look,
            hint="the client program there (`bin_directory`), and a login for the user who runs it "
            "(`run_as`)", made_by=(in_database(database.name), coming(database.name)),
        ),)

    def unarmed(
        self, before: Observation, thaw: tuple[Action, ...] | Irreversible
    ) -> tuple[Action, ...] | Irreversible:
        """The undo of a freeze: the switch goes first, then ``thaw``."""
        if self.lease is None or isinstance(thaw, Irreversible):
            return thaw
        database = unpacked(before.evidence["database"])
        return (remove(database, before.evidence["run"]), *thaw)

    def heartbeat(self, before: Observation) -> Heartbeat | None:
        if self.lease is None or "database" not in before.evidence:
            return None
        return heartbeat(
            unpacked(before.evidence["database"]), before.evidence["run"], self.lease,
            self.asking(before.evidence)[1],
        )
