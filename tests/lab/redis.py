"""Redis on two hosts of the lab, one following the other, and somebody who writes."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.lab.lab import MACHINES, Lab
from tests.lab.processes import wait_for
from tests.lab.switchover import NEW, OLD, PASSWORD, Writer


def files(*, durable: bool = False) -> dict[str, dict[str, str]]:
    """Both start at boot; the one on NEW follows the one on OLD. ``durable``: a restart loses no
    write."""
    common = (f"bind 0.0.0.0\nport 6379\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\nsave \"\"\n"
              f"appendonly {'yes' if durable else 'no'}\ndir /srv\nrepl-diskless-sync-delay 0\n"
              "logfile /var/log/redis.log\n")
    boot = "setsid redis-server /etc/redis-lab.conf </dev/null >/dev/null 2>&1 &\n"
    follow = f"replicaof {MACHINES[OLD]} 6379\n"
    return {
        host: {"/etc/redis-lab.conf": common + more, "/etc/runbook-lab/boot.d/redis": boot}
        for host, more in ((OLD, ""), (NEW, follow))
    }


def databases() -> str:
    lines = ["secrets: {db: {env: DB_PASSWORD}}", "databases:"]
    lines += [
        f"  {name}: {{engine: redis, host: {host}, password: db, "
        f"replication: {MACHINES[host]} 6379}}"
        for name, host in (("east", OLD), ("west", NEW))
    ]
    return "\n".join(lines) + "\n"


def ask(lab: Lab, host: str, *command: str) -> str:
    return lab[host].run(
        f"REDISCLI_AUTH={PASSWORD} redis-cli {' '.join(command)}", check=False
    ).stdout


def wait_until_following(lab: Lab) -> None:
    wait_for("replication", lambda: "master_link_status:up" in ask(lab, NEW, "info"))


def ids(lab: Lab, host: str) -> set[int]:
    return {int(line) for line in ask(lab, host, "smembers", "orders").split()}


class RedisWriter(Writer):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        # A customer who is not answered goes to the other side, and tries no third time.
        once = Retry(NoBackoff(), 0)
        self._servers = [
            redis.Redis(host=MACHINES[host], password=PASSWORD, socket_timeout=2,
                        socket_connect_timeout=1, retry=once)
            for host in (OLD, NEW)
        ]

    def write(self, number: int) -> bool:
        for server in self._servers:
            try:
                server.sadd("orders", number)
            except redis.RedisError:
                continue
            return True
        return False
