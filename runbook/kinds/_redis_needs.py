"""What the Redis kinds rely on: rights of the user, the same version, replication."""

from __future__ import annotations

from runbook.kinds import needs_common
from runbook.kinds._redis_machine import cli, cli_of_leader
from runbook.kinds._shared import tail
from runbook.kinds.needs_common import Seen, need
from runbook.kinds.redis_common import FROZEN, REWRITE, info, lacks, role, settings, strays
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import Reads

FREEZING = settings(FROZEN)
LEADING = ("REPLICAOF NO ONE",)

FAR_BEHIND = 16 * 2**20
"""Bytes: a replica that lacks more takes its time to catch up under a freeze."""


def may(
    reads: Reads, name: str, what: str, commands: tuple[str, ...], *, persist: bool = False
) -> Need:
    """Whether our user's rules let a command through, as the server itself tells (``ACL DRYRUN``,
    which executes nothing; from Redis 7 on). ``persist``: and let it keep its configuration."""
    if persist:
        commands += (REWRITE,)

    def look() -> Seen:
        redis = server(reads, name, "redis")
        user = str(answer(redis, "ACL WHOAMI").value)
        for command in commands:
            told = redis.query(f"ACL DRYRUN {user} {command}")
            if not told.ok:
                return Seen(None, told.error)
            if told.value != "OK":
                return Seen(False, str(told.value))
        return Seen(True, user)

    return need(
        f"{name} lets us {what}", look, made_by=(in_database(name), coming(name)),
        hint="ACL SETUSER: the user needs " + ", ".join(dict.fromkeys(
            "+" + "|".join(command.lower().split()[:2]) if command.startswith("CONFIG")
            else "+" + command.lower().split()[0] for command in commands
        )),
    )


def stays_frozen(name: str, *, persist: bool) -> Need:
    """Whether a server that is started again refuses writes."""
    return Need(
        what=f"{name} starts closed, should it be restarted under the freeze", ok=persist,
        seen="" if persist else "a freeze without `persist` is forgotten by a restart",
        hint="" if persist else "persist: true, for each redis step of the move", grave=False,
    )


def same_version(reads: Reads, one: str, other: str) -> Need:
    """Of both sides; an older server cannot load what a newer one sends, on the way back either."""

    def version(name: str) -> str:
        return info(server(reads, name, "redis"), "server")["redis_version"]

    return needs_common.same_version(one, other, version, of="major version")


def follows(reads: Reads, replica: str, primary: str) -> Need:
    """Whether a replica is connected to this primary and no other, and is not far behind."""

    def look() -> Seen:
        leader = role(server(reads, primary, "redis"))
        follower = role(server(reads, replica, "redis"))
        if follower["role"] != "replica":
            return Seen(False, f"{replica} is a primary, too")
        if follower["offset"] < 0:
            return Seen(False, "it is not connected to its primary")
        why = strays(leader, follower, primary)
        if why:
            return Seen(False, why)
        behind = lacks(leader, follower)
        return Seen(behind <= FAR_BEHIND, f"{behind} bytes behind")

    return need(f"{replica} follows {primary} closely", look, hint="see INFO replication")


def way_back(reads: Reads, new: str, old: str) -> Need:
    """Whether both servers can be asked from the old one's machine, which waits there until it has
    what the new one has taken (``redis.promote``'s undo)."""

    def look() -> Seen:
        leader, follower = (server(reads, name, "redis").database for name in (new, old))
        if leader.replication is None or follower.replication is None:
            return Seen(False, "`replication` is not given for both")
        for command, env in (cli(follower), cli_of_leader(leader, follower)):
            told = reads.on(follower.host).query(f"{command} PING", env=env, timeout=20.0)
            if told.stdout.strip() != "PONG":
                said = tail(told.stderr) or tail(told.stdout)
                return Seen(False, said or f"no answer (exit code {told.exit_code})")
        return Seen(True, "PONG")

    return need(
        f"the machine of {old} can ask {old} and {new}, for the way back", look, grave=False,
        hint=f"redis-cli there, a login from there, and `replication` of both, as {old} reaches "
        f"{new}", made_by=(in_database(old), in_database(new), coming(new), coming(old)),
    )
