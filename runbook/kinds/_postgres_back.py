"""The way back of a promotion: the old side is brought up to date, and the new one stopped."""

from __future__ import annotations

import shlex

from runbook.kinds.postgres_common import (
    PATIENCE,
    WRITERS,
    as_owner,
    files,
    leader_info,
    pg_ctl,
    psql,
    start,
    stop,
)
from runbook.kinds.sql_common import program
from runbook.model.actions import ExecuteSql, RunCommand
from runbook.model.database import Database

_DRAINING = 30
"""Seconds that transactions which have written are given to end."""
LAST_RECORD = 10
"""Seconds in which the last record of a server that has stopped has to show on its follower."""

# A view of the sessions is otherwise the same for as long as a transaction lasts.
_DRAINED = """\
DO $$ DECLARE busy text; BEGIN
  FOR i IN 1 .. {tries} LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT string_agg(who, ', ') INTO busy FROM (SELECT * FROM ({writers}) AS w LIMIT 3) AS w(who);
    IF busy IS NULL THEN RETURN; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RAISE EXCEPTION 'still writing: %. It refuses new writes, and is the primary; nothing was given '
    'back yet. End those transactions, and roll back again', busy;
END $$"""

_HAND_OVER = """\
export LC_ALL=C
at() {{ echo $(((0x${{1%/*}} << 32) + 0x${{1#*/}})); }}
field() {{ {files} | sed -n "s/^$1: *//p"; }}
if {running}; then
  tries={tries}
  until [ "$({behind})" = 1 ]; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || {{ echo "{follower} does not catch up" >&2; exit 1; }}
    sleep 0.1
  done
fi
(
{stop}
) || exit
if [ "$(field 'Database cluster state')" != 'shut down' ]; then
  echo "{leader} is down, and was not stopped cleanly: nothing was promoted. Start it, and roll" \
    "back again" >&2
  exit 1
fi
system=$(field 'Database system identifier')
last=$(field 'Latest checkpoint location')
end=$(($(date +%s) + {last_record}))
while :; do
  told=$({identify} 2>&1)
  upto=
  case $told in "$system|"*) upto=$(echo "$told" | cut -d '|' -f 3) ;; esac
  if [ "$upto" ] && [ "$(at "$upto")" -gt "$(at "$last")" ]; then exit 0; fi
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 0.1
done
how="{leader} was started again, and is the primary, which refuses writes"
(
{start}
) || how="{leader} is stopped, and could not be started again"
if [ "$upto" ]; then told="it has the log up to $upto"; fi
echo "{follower} was not promoted: the last record of {leader} begins at $last, and of {follower}" \
  "it is only known: $told. $how. See that {follower} follows it, and roll back again" >&2
exit 1
"""


def drained(database: Database) -> ExecuteSql:
    """Wait until no transaction that has written is under way, and fail where one stays."""
    return ExecuteSql(
        database=database.name, idempotent=True, timeout=_DRAINING + 10.0,
        statements=(_DRAINED.format(tries=_DRAINING * 100, writers=WRITERS),),
    )


def hand_over(leader: Database, follower: Database, sockets: str) -> RunCommand:
    """Wait until a follower has replayed everything its leader has, stop the leader, and see that
    the follower has its very last record; else the leader is started again, and it fails.

    A stop waits only for followers that are connected. What the follower has on its disk counts:
    it replays all of that before it is promoted."""
    ask = psql(
        leader, sockets, "SELECT count(*) FROM pg_stat_replication WHERE application_name = "
        f"'{follower.name}' AND state = 'streaming' AND replay_lsn >= pg_current_wal_flush_lsn()",
    )
    # By the way in which the leader will follow it.
    info = f"{leader_info(leader, follower)} dbname=replication replication=true connect_timeout=5"
    identify = (f"{program(leader, 'psql')} -X -A -t -q -w -d {shlex.quote(info)} "
                "-c IDENTIFY_SYSTEM")
    running = (f"{pg_ctl(leader)} status >/dev/null 2>&1" if leader.service is None
               else f"systemctl is-active --quiet {shlex.quote(leader.service)}")
    end = stop(leader)
    return end.model_copy(update={"timeout": None, "script": _HAND_OVER.format(
        files=as_owner(leader, files(leader)), running=running, tries=PATIENCE * 10,
        behind=as_owner(leader, ask), identify=as_owner(leader, identify), stop=end.script,
        start=start(leader).script, last_record=LAST_RECORD,
        leader=leader.name, follower=follower.name,
    )})
