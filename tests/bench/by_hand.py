"""The move of examples/web-postgres by hand, as fast as a hand can: the floor of its outage.

    by_hand.py VARIANT STOP SSH...

Every connection is open before it begins: SQL to both databases, a shell as the databases' owner
and one as root on the old side, the pool's console. It does what the runbooks do inside their
critical sections, in the same order and as careful of the data, and nothing else: no journal, no
second look, no way back. STOP says how the old database is stopped: ``pg_ctl``, as everybody does
it, looks every 100 ms whether it has ended; ``quick`` looks every 10 ms, as Runbook does and no
hand would: the floor below the floor. ``naive`` is the move without freeze and fence, which loses
orders. Prints ``ready``, waits for a line, moves, and prints ``done``. SSH is the command line that
logs in as root on the old side, to which a command is added.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import dns.query
import dns.rcode
import dns.tsigkeyring
import dns.update
import psycopg

from tests.lab.names import PRIMARY, TSIG
from tests.lab.postgres import DATA, programs
from tests.lab.switchover import PASSWORD

EAST, WEST = "198.51.100.10", "203.0.113.10"
CONSOLE = 6433
"""Where the tunnel to the pool's console begins."""

_END = "-- end --"
STOPS = {
    "pg_ctl": f"{programs()}/pg_ctl -D {DATA} stop -m fast >/dev/null",
    "quick": f"{programs()}/pg_ctl -D {DATA} stop -m fast -W >/dev/null\n"
    f"while [ -e {DATA}/postmaster.pid ]; do sleep 0.01; done",
}
LAST = f"{programs()}/pg_controldata {DATA} | sed -n 's/^Latest checkpoint location: *//p'"


class Shell:
    """A shell that is open on the old side."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self("true")

    def send(self, script: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{script}\necho '{_END}'\n")

    def answer(self) -> str:
        assert self._process.stdout is not None
        lines: list[str] = []
        while (line := self._process.stdout.readline()) != f"{_END}\n":
            assert line, "the shell has ended"
            lines.append(line)
        return "".join(lines).strip()

    def __call__(self, script: str) -> str:
        self.send(script)
        return self.answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def connect(**more: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(user="runbook", password=PASSWORD, autocommit=True, **more)


def value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


def flip(ttl: int = 1, to: str = WEST) -> None:
    """All records of the shop, in one update."""
    name, _, secret = TSIG.split(":")
    update = dns.update.UpdateMessage(
        "shop.example", keyring=dns.tsigkeyring.from_text({name: secret}),
        keyalgorithm="hmac-sha256",
    )
    for label in ("@", "img"):
        update.replace(label, ttl, "A", to)
    update.replace("@", ttl, "TXT", f'"v=spf1 ip4:{to} -all"')
    answer = dns.query.tcp(update, PRIMARY, timeout=5)
    assert answer.rcode() == dns.rcode.NOERROR, answer


class Hands:
    def __init__(self, ssh: list[str], stop: str) -> None:
        self._stop = STOPS[stop]
        self.root = Shell(*ssh, "sh")
        self.owner = Shell(*ssh, "cd /; exec runuser -u postgres -- sh")
        self.tunnel = Shell(*ssh[:1], "-L", f"127.0.0.1:{CONSOLE}:127.0.0.1:6432", *ssh[1:], "sh")
        self.east = connect(host=EAST, dbname="shop")
        self.west = connect(host=WEST, dbname="shop")
        self.pool = connect(host="127.0.0.1", port=CONSOLE, dbname="pgbouncer",
                            prepare_threshold=None)

    def close(self) -> None:
        for one in (self.pool, self.east, self.west):
            one.close()
        for shell in (self.root, self.owner, self.tunnel):
            shell.close()

    # -- the pieces ----------------------------------------------------------------------------

    def short_stop(self) -> None:
        self.east.execute("CHECKPOINT")

    def freeze(self) -> None:
        self.east.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        self.east.execute("SELECT pg_reload_conf()")
        self.east.execute("SET default_transaction_read_only = off")
        while value(self.east, "SELECT count(*) FROM pg_stat_activity "
                    "WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"):
            time.sleep(0.005)

    def route(self, backend: str, to: str = "") -> None:
        """Nobody waits for it."""
        line = (f"set server {backend}/east state maint; "
                f"shutdown sessions server {backend}/east; ")
        if to:
            line += f"set server {backend}/{to} state ready"
        self.root.send(f"echo '{line}' | socat - /run/haproxy/admin.sock")

    def promote(self) -> None:
        """The old side stops, and once the new one has its very last record it takes over."""
        last = self.owner(f"{self._stop}\n{LAST}")
        while not value(self.west, f"SELECT pg_last_wal_replay_lsn() > '{last}'::pg_lsn"):
            time.sleep(0.002)
        self.west.execute("SELECT pg_promote(false)")
        while value(self.west, "SELECT pg_is_in_recovery()"):
            time.sleep(0.002)

    def flip(self) -> None:
        flip()

    # -- the variants --------------------------------------------------------------------------

    def forward(self) -> None:
        self.freeze()
        self.route("shop", "west")
        self.promote()
        self.root.answer()

    def dns_only(self) -> None:
        self.freeze()
        self.route("shop")
        self.promote()
        self.flip()
        self.root.answer()

    def hold(self) -> None:
        self.pool.execute("PAUSE shop")
        self.route("database", "west")
        self.promote()
        self.root.answer()
        self.pool.execute("RESUME shop")

    def naive(self) -> None:
        """The new side is promoted, and DNS leads there: the old one takes orders until the last
        cache has forgotten it."""
        self.west.execute("SELECT pg_promote(true)")
        self.flip()


def main(variant: str, stop: str, ssh: list[str]) -> None:
    hands = Hands(ssh, stop)
    if variant in {"dns-only", "naive"}:
        flip(to=EAST)  # the TTL alone is lowered
    hands.short_stop()
    print("ready", flush=True)
    sys.stdin.readline()
    getattr(hands, variant.replace("-", "_"))()
    print("done", flush=True)
    hands.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
