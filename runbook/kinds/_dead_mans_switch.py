"""A dead man's switch on a frozen server: it thaws by itself when its controller falls silent.

A small process on the server's own machine, in a session of its own, looks at the time of a file
that the controller touches. When that is older than the lease it *fires*: it renames the file
``armed`` to ``fired``, and only then thaws. Taking the switch away is the same rename to another
name, so either the one or the other happens, whatever the controller was doing at that moment.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._shared import Duration
from runbook.kinds.sql_common import packed, run_of, unpacked
from runbook.model.actions import Action, RunCommand
from runbook.model.database import Database
from runbook.model.kind import Kind
from runbook.model.observation import Heartbeat, Irreversible, Observation
from runbook.model.ports import Reads

_PLACE = '"${HOME:-/tmp}/.runbook-switch/"'
_FIRED = 17
"""Exit status of taking away a switch that has fired."""

# One line each: `touch` and `mv` on one folder are atomic, and the clock is the machine's own.
_WATCH = """\
cd {place}{name} || exit 1
while :; do
  [ -e armed ] || exit 0
  now=$(date +%s)
  last=$(stat -c %Y alive 2>/dev/null) || last=0
  if [ $((now - last)) -gt {lease} ]; then
    mv armed fired 2>/dev/null || exit 0
    date +%s >fired
    until {thaw}; do [ -e fired ] || exit 0; sleep 1; done >>log 2>&1
    echo thawed >>fired
    exit 0
  fi
  sleep 0.2
done
"""


def _name(database: Database, run: str) -> str:
    """Of the switch's folder. A switch belongs to a run: what an earlier one left behind, fired or
    not, says nothing about this one."""
    return shlex.quote(f"{run}-{database.name}")


def arm(
    database: Database, run: str, lease: float, thaw: str, env: Mapping[str, str] | None = None
) -> RunCommand:
    """Set the switch. ``thaw`` is a command that may be tried again until it succeeds; ``env`` is
    what it needs besides, such as a password (a secret's mark)."""
    name = _name(database, run)
    watch = _WATCH.format(place=_PLACE, name=name, lease=max(1, int(lease)), thaw=thaw)
    script = (
        f"set -e; umask 077; mkdir -p {_PLACE}{name}; cd {_PLACE}{name}\n"
        "rm -f fired disarmed armed log; : >alive; : >armed; sync alive armed .\n"
        # In a session of its own, with none of the job's files: it outlives the connection.
        f"setsid sh -c {shlex.quote(watch)} </dev/null >/dev/null 2>&1 9>&- &\n"
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


def heartbeat(database: Database, run: str, lease: float) -> Heartbeat:
    """The sign of life: only while the switch is armed, so that none is left behind."""
    name = _name(database, run)
    return Heartbeat(
        host=database.host, run_as=database.run_as, every=lease / 4,
        command=f"cd {_PLACE}{name} && [ -e armed ] && touch -c alive",
    )


class Leased(Kind):
    """Base of the kinds that freeze: with ``lease`` they set a switch first."""

    wants_heartbeat: ClassVar[bool] = True

    lease: Duration | None = Field(
        default=None, ge=4, description="How long the controller may be silent before writes "
        "come back by themselves, at least 4 s. Not given: they never do."
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
            unpacked(before.evidence["database"]), before.evidence["run"], self.lease
        )
