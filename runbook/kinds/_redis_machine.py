"""Redis, asked on the machine of a server: where nobody else is there to ask."""

from __future__ import annotations

import shlex

from runbook.kinds.redis_common import place
from runbook.kinds.sql_common import program
from runbook.model.actions import RunCommand
from runbook.model.database import Database
from runbook.model.secrets import mark

_LEADER = "LEADER_AUTH"
"""The variable with the password of the other server: each has its own."""

# The leader first: what the follower has then can only be more.
_WAIT = """\
ask_leader() {{ {ask_leader} INFO replication 2>&1 | tr -d '\\r'; }}
ask_own() {{ {ask_own} INFO replication 2>&1 | tr -d '\\r'; }}
value() {{ printf '%s\\n' "$1" | sed -n "s/^$2://p"; }}
end=$(($(date +%s) + {seconds}))
while :; do
  leader=$(ask_leader) own=$(ask_own)
  id=$(value "$leader" master_replid) upto=$(value "$leader" master_repl_offset)
  at=$(value "$own" slave_repl_offset) link=$(value "$own" master_link_status)
  if [ "$link" = up ] && [ "$id" ] && [ "$id" = "$(value "$own" master_replid)" ] &&
    [ "$at" -ge "$upto" ]; then exit 0; fi
  if [ "$(date +%s)" -ge "$end" ]; then
    [ "$id" ] || echo "{leader} gives no answer here: $(printf '%s' "$leader" | head -n 1)" >&2
    [ "$link" ] || echo "{own} is no replica: $(printf '%s' "$own" | head -n 1)" >&2
    echo "{own} does not catch up with {leader}: link ${{link:-unknown}}," \
      "at ${{at:-?}} of ${{upto:-?}}" >&2
    echo "{leader} is the primary still, and refuses writes until {own} has them all:" \
      "see INFO replication of {own}, then roll back again" >&2
    exit 1
  fi
  sleep 0.1
done
"""


def cli(database: Database) -> tuple[str, dict[str, str]]:
    """A command that asks a server on its own machine, and its environment: a password is never
    an argument."""
    env = {} if database.password is None else {"REDISCLI_AUTH": mark(database.password)}
    host = f" -h {shlex.quote(database.address)}" if database.address else ""
    return f"{program(database, 'redis-cli')}{host} -p {database.port}{_user(database)}", env


def cli_of_leader(leader: Database, follower: Database) -> tuple[str, dict[str, str]]:
    """The same on the machine of who follows it, by the way that replication goes, too. It ends
    after some seconds where nobody answers. Raises Refused."""
    host, port = place(leader).split()
    login, env = "env -u REDISCLI_AUTH", {}
    if leader.password is not None:
        login, env = f'env REDISCLI_AUTH="${_LEADER}"', {_LEADER: mark(leader.password)}
    return (f"timeout 5 {login} {program(follower, 'redis-cli')} -h {shlex.quote(host)} "
            f"-p {port}{_user(leader)}"), env


def _user(database: Database) -> str:
    return f" --user {shlex.quote(database.user)}" if database.user else ""


def wait_for_replica(leader: Database, follower: Database, seconds: int = 60) -> RunCommand:
    """On the follower's machine: until it has everything that its leader has. Both are asked
    themselves, and whether they are of one stream: a list of replicas that the leader keeps may
    name the follower by any address, and others by the same. Raises Refused."""
    ask_leader, env = cli_of_leader(leader, follower)
    ask_own, own_env = cli(follower)
    return RunCommand(
        host=follower.host, env=env | own_env, idempotent=True, timeout=seconds + 20.0,
        script=_WAIT.format(
            ask_leader=ask_leader, ask_own=f"timeout 5 {ask_own}", seconds=seconds,
            leader=leader.name, own=follower.name,
        ),
    )
