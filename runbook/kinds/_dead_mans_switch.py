"""A dead man's switch on a frozen server: it thaws by itself when its controller falls silent.

A small process on the server's own machine, in a session of its own, looks at the time of a file
that the controller touches. When that is older than the lease it *fires*: it renames the file
``armed`` to ``fired``, and only then thaws. Taking the switch away is the same rename to another
name, so either the one or the other happens, whatever the controller was doing at that moment.
"""

from __future__ import annotations

import shlex

from runbook.model.actions import RunCommand
from runbook.model.database import Database
from runbook.model.observation import Heartbeat

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


def arm(database: Database, run: str, lease: float, thaw: str) -> RunCommand:
    """Set the switch. ``thaw`` is a command that may be tried again until it succeeds."""
    name = _name(database, run)
    watch = _WATCH.format(place=_PLACE, name=name, lease=max(1, int(lease)), thaw=thaw)
    script = (
        f"set -e; umask 077; mkdir -p {_PLACE}{name}; cd {_PLACE}{name}\n"
        "rm -f fired disarmed armed log; : >alive; : >armed; sync alive armed .\n"
        # In a session of its own, with none of the job's files: it outlives the connection.
        f"setsid sh -c {shlex.quote(watch)} </dev/null >/dev/null 2>&1 9>&- &\n"
    )
    return RunCommand(host=database.host, script=script, run_as=database.run_as, idempotent=True)


def disarm(database: Database, run: str) -> RunCommand:
    """Take the switch away; succeeds where there is none, and fails where it has fired."""
    name = _name(database, run)
    script = (
        f"cd {_PLACE}{name} 2>/dev/null || exit 0\n"
        f"if mv armed disarmed 2>/dev/null; then rm -rf {_PLACE}{name}; exit 0; fi\n"
        "[ ! -e fired ] || {\n"
        f'  echo "the dead man\'s switch of {database.name} fired at $(head -n 1 fired): writes '
        f'came back there" >&2; exit {_FIRED}; }}\n'
    )
    return RunCommand(host=database.host, script=script, run_as=database.run_as, idempotent=True)


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
