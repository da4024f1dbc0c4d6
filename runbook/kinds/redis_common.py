"""Redis: what its kinds ask of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.errors import Errored, Refused
from runbook.kinds.sql_common import answer
from runbook.model.actions import ExecuteSql
from runbook.model.database import Database
from runbook.model.ports import DatabaseReads

_NOBODY = 1000
"""Replicas that a frozen server demands before it takes a write: more than anybody has."""
FROZEN = {"demanded": _NOBODY, "max_lag": 10}
"""What a frozen server demands, as :func:`demand_of` tells it. With a lag of 0 s that would be
nothing at all."""
_ASKED = 100
"""Times a replica is asked for what is under way to it at this very moment."""

PERSIST = (
    "True: the server's configuration file holds it, too (`CONFIG REWRITE`), so that no restart "
    "forgets it."
)
REWRITE = "CONFIG REWRITE"


def role(redis: DatabaseReads) -> dict[str, Any]:
    """``role`` (primary or replica), ``of`` (whose, ``host port``), ``stream`` (the id of the
    stream of replication, the same for a primary and whoever follows it), ``offset`` in it (-1: a
    replica that is not connected). Raises Errored."""
    told = info(redis, "replication")
    if told.get("role") == "master":
        return {"role": "primary", "of": "", "stream": told["master_replid"],
                "offset": int(told["master_repl_offset"])}
    if told.get("role") == "slave":
        linked = told["master_link_status"] == "up"
        return {"role": "replica", "of": f"{told['master_host']} {told['master_port']}",
                "stream": told["master_replid"],
                "offset": int(told["slave_repl_offset"]) if linked else -1}
    raise Errored(f"database {redis.database.name} is neither primary nor replica")


def both(primary: DatabaseReads, replica: DatabaseReads) -> tuple[dict[str, Any], dict[str, Any]]:
    """:func:`role` of a primary, and then of its replica.

    A frozen primary still sends pings, and which keys have expired: a replica that is asked before
    they have arrived seems to lack something. So it is asked again, a number of times, until it has
    what the primary had. Nothing that is missing then is explained away."""
    first, second = role(primary), role(replica)
    for _ in range(_ASKED):
        if second["role"] != "replica" or not 0 <= second["offset"] < first["offset"]:
            break
        second = role(replica)
    return first, second


def strays(primary: Mapping[str, Any], replica: Mapping[str, Any], name: str) -> str:
    """Why a replica is none of the primary ``name``, in words; empty: it is. Both are given as
    :func:`role` tells them, the replica connected: offsets of two streams say nothing of each
    other."""
    if primary["stream"] == replica["stream"]:
        return ""
    return (f"it follows {replica['of']}, which is not {name}: the ids of their streams of "
            f"replication are {replica['stream'][:12]} and {primary['stream'][:12]}")


def lacks(primary: Mapping[str, Any], replica: Mapping[str, Any]) -> int:
    """Bytes of its primary's stream that a replica lacks."""
    return max(0, int(primary["offset"]) - int(replica["offset"]))


def demand_of(redis: DatabaseReads) -> dict[str, int]:
    """``demanded`` (how many replicas have to be there for a write) and ``max_lag`` (seconds
    within which they have to have answered; 0: none is demanded). Raises Errored."""
    told = [str(row[0]) for row in answer(redis, "CONFIG GET min-replicas-*").rows]
    values = dict(zip(told[::2], told[1::2], strict=True))
    return {"demanded": int(values["min-replicas-to-write"]),
            "max_lag": int(values["min-replicas-max-lag"])}


def frozen(demand: Mapping[str, int]) -> bool:
    """Whether a server with such a demand (:func:`demand_of`) refuses every write."""
    return demand["demanded"] >= _NOBODY and demand["max_lag"] > 0


def has_all(new: DatabaseReads, old: DatabaseReads) -> bool:
    """Whether a primary that was promoted has all that its former primary has: the same stream,
    which went no further than the promotion."""
    one, other = info(new, "replication"), info(old, "replication")
    behind = int(other["master_repl_offset"]) - (int(one["second_repl_offset"]) - 1)
    return other["master_replid"] == one["master_replid2"] and behind <= 0


def info(redis: DatabaseReads, section: str) -> dict[str, str]:
    told = str(answer(redis, f"INFO {section}").value)
    return dict(line.partition(":")[::2] for line in told.split() if ":" in line)


def execute(name: str, *commands: str, persist: bool = False) -> ExecuteSql:
    """``persist``: the server's configuration file holds it afterwards. It is written before the
    commands, too: where that is not possible, nothing was changed."""
    if persist:
        commands = (REWRITE, *commands, REWRITE)
    return ExecuteSql(database=name, statements=commands, idempotent=True)


def settings(wanted: Mapping[str, int]) -> tuple[str, ...]:
    """Commands by which a server demands what :func:`demand_of` tells. Each sets one thing, as
    Redis 6 takes no more at once; whichever is the last one that was executed, the server demands
    what it did before, what it shall, or something between."""
    return (f"CONFIG SET min-replicas-max-lag {wanted['max_lag']}",
            f"CONFIG SET min-replicas-to-write {wanted['demanded']}")


def demand(name: str, wanted: Mapping[str, int], *, persist: bool = False) -> ExecuteSql:
    return execute(name, *settings(wanted), persist=persist)


def refuse_without_file(redis: DatabaseReads) -> None:
    """Raises Refused where a server was started without a configuration file."""
    if not info(redis, "server").get("config_file"):
        raise Refused(
            f"{redis.database.name} runs without a configuration file: what is changed there would "
            "be forgotten with its next start",
            hint="start it with a file, or leave `persist` out",
        )


def place(database: Database) -> str:
    """``host port`` by which others follow a server. Raises Refused."""
    words = (database.replication or "").split()
    if not words:
        raise Refused(
            f"nobody can follow {database.name}: `replication` is not given for it",
            hint=f"databases: {{{database.name}: {{replication: '198.51.100.30 6379'}}}}",
        )
    return f"{words[0]} {words[1] if len(words) > 1 else database.port}"
