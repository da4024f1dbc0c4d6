"""MariaDB on two hosts of the lab, one following the other by GTID, and somebody who writes."""

from __future__ import annotations

import pymysql

from tests.lab.lab import MACHINES, Lab
from tests.lab.processes import wait_for
from tests.lab.switchover import NEW, OLD, PASSWORD, Writer

DATA = "/srv/mariadb"
_ASK = "mariadb --no-defaults -u root -S /srv/mariadb/socket -N -B -e"


def start(number: int, *, read_only: bool) -> str:
    """A command that starts server ``number`` on its host."""
    return f"""setsid runuser -u mysql -- mariadbd --no-defaults --datadir={DATA}/data \
  --socket={DATA}/socket --pid-file={DATA}/pid --bind-address=0.0.0.0 --server-id={number} \
  --log-bin=binlog --log-slave-updates --gtid-strict-mode=1 --skip-name-resolve \
  --innodb-buffer-pool-size=16M --innodb-log-file-size=8M --read-only={int(read_only)} \
  </dev/null >>{DATA}/log 2>&1 &
"""


def boot(host: str) -> str:
    """For a host's `boot.d`: it starts the server that is there, and it takes no writes until
    somebody says so, as it is done where there are two."""
    number = (OLD, NEW).index(host) + 1
    return f"if [ -e {DATA}/data/mysql ]; then {start(number, read_only=True)}fi\n"


def make_pair(lab: Lab) -> None:
    """A primary on OLD with a replica on NEW."""
    for number, host in enumerate((OLD, NEW), 1):
        lab[host].run(f"""set -e
install -d -o mysql -m 755 {DATA}
runuser -u mysql -- mariadb-install-db --no-defaults --datadir={DATA}/data \
  --auth-root-authentication-method=normal --skip-test-db >&2
{start(number, read_only=host == NEW)}""")
    for host in (OLD, NEW):
        wait_for(f"MariaDB on {host}", lambda host=host: ask(lab, host, "SELECT 1") == "1\n")
    lab[OLD].run(f"""{_ASK} "
CREATE USER mover@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO mover@'%';
CREATE USER replicator@'%' IDENTIFIED BY '{PASSWORD}';
GRANT REPLICATION SLAVE ON *.* TO replicator@'%';
CREATE DATABASE shop; CREATE TABLE shop.orders (id BIGINT PRIMARY KEY);
CREATE USER app@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT, INSERT ON shop.* TO app@'%'" """)
    lab[NEW].run(f"""{_ASK} "RESET MASTER; CHANGE MASTER TO MASTER_HOST='{MACHINES[OLD]}',
MASTER_USER='replicator', MASTER_PASSWORD='{PASSWORD}', MASTER_CONNECT_RETRY=1,
MASTER_USE_GTID=slave_pos; START SLAVE" """)
    wait_for("replication", lambda: "shop" in ask(lab, NEW, "SHOW DATABASES"))


def ask(lab: Lab, host: str, statement: str) -> str:
    return lab[host].run(f'{_ASK} "{statement}"', check=False).stdout


def databases() -> str:
    lines = ["secrets: {db: {env: DB_PASSWORD}}", "databases:"]
    lines += [
        f"  {name}: {{engine: mysql, host: {host}, user: mover, password: db, replication: "
        f"'host={MACHINES[host]} user=replicator password=db'}}"
        for name, host in (("east", OLD), ("west", NEW))
    ]
    lines.append(f"  east-app: {{engine: mysql, host: {OLD}, user: app, password: db}}")
    return "\n".join(lines) + "\n"


def ids(lab: Lab, host: str) -> set[int]:
    return {int(line) for line in ask(lab, host, "SELECT id FROM shop.orders").split()}


class MariadbWriter(Writer):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._servers: dict[str, pymysql.Connection[pymysql.cursors.Cursor]] = {}

    def write(self, number: int) -> bool:
        for host in (OLD, NEW):
            try:
                if host not in self._servers:
                    self._servers[host] = pymysql.connect(
                        host=MACHINES[host], user="app", password=PASSWORD, autocommit=True,
                        connect_timeout=2, read_timeout=2,
                    )
                self._servers[host].cursor().execute(
                    "INSERT INTO shop.orders VALUES (%s)", (number,)
                )
            except pymysql.MySQLError as fault:
                if fault.args[0] != 1290:  # it runs with --read-only
                    self._servers.pop(host, None)
                continue
            return True
        return False
