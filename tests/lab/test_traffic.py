"""HAProxy takes servers out and puts them back; a query that changes something is done once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab import postgres
from tests.lab.lab import Lab
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import NEW, OLD, PASSWORD

pytestmark = [*marks, without("haproxy"), without("socat"),
              pytest.mark.skipif(not postgres.programs(), reason="no PostgreSQL here")]

HAPROXY = """\
global
  stats socket /run/haproxy.sock mode 600 level admin
  stats socket /run/haproxy-look.sock mode 600 level operator
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend web
  bind :8080
  default_backend app
backend app
  server east 198.51.100.10:22 weight 1
  server west 203.0.113.10:22 weight 1
backend checked
  server up 203.0.113.10:22 check inter 100ms fall 3 disabled
  server down 203.0.113.10:9 check inter 100ms fall 3 disabled
  server idle 203.0.113.10:22 weight 0 disabled
"""
POOLER = """\
[databases]
shop = host=198.51.100.10 port=5432 dbname=postgres user=app password=only-in-the-lab
[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = any
admin_users = postgres
stats_users = postgres
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
logfile = /var/log/pgbouncer.log
"""
POOLER_BOOT = (
    "touch /var/log/pgbouncer.log && chown postgres /var/log/pgbouncer.log && setsid runuser -u "
    "postgres -- pgbouncer /etc/pgbouncer-lab.ini >>/dev/null 2>&1 </dev/null &\n"
)
BOOT = "setsid haproxy -db -f /etc/haproxy-lab.cfg >>/var/log/haproxy.log 2>&1 </dev/null &\n"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    files = {OLD: {"/etc/haproxy-lab.cfg": HAPROXY, "/etc/runbook-lab/boot.d/haproxy": BOOT},
             NEW: {"/etc/pgbouncer-lab.ini": POOLER,
                   "/etc/runbook-lab/boot.d/pgbouncer": POOLER_BOOT}}
    with Lab.open(files=files) as lab:
        postgres.make_pair(lab)
        wait_for("HAProxy", lambda: not lab[OLD].run("test -S /run/haproxy.sock",
                                                     check=False).returncode)
        yield lab


@pytest.fixture
def runs(pair: Lab, tmp_path: Path) -> Runs:
    return Runs(pair, tmp_path, postgres.databases(), DB_PASSWORD=PASSWORD)


def state_of(lab: Lab, server: str) -> int:
    told = lab[OLD].run("echo 'show servers state app' | socat - /run/haproxy.sock").stdout
    return next(int(line.split()[6]) for line in told.splitlines() if f" {server} " in line)


@without("pgbouncer")
def test_a_probe_shows_what_consoles_let_us_do(pair: Lab, runs: Runs) -> None:
    runs.head += "  pool: {engine: pgbouncer, host: west-web, user: postgres}\n"
    code, told = runs.probed("".join(
        f"  - {{id: {name}, kind: haproxy.server, hosts: east-web, with: {{backend: app, "
        f"server: east, state: maint, socket: /run/{name}.sock}}}}\n"
        for name in ("haproxy", "haproxy-look")
    ) + "  - {id: hold, kind: pgbouncer.pause, with: {console: pool, pool: shop}}\n")
    assert code == ExitCode.REHEARSAL_FAILED
    assert [(need["what"], need["state"], need["seen"]) for node in told["nodes"]
            for need in node["needs"] if "sh finds" not in need["what"]] == [
        ("/run/haproxy.sock lets us change servers", "met", "its level is admin"),
        ("/run/haproxy-look.sock lets us change servers", "unmet", "its level is operator"),
        ("pool lets us pause and resume", "met", "auth_type is any: everybody is an admin"),
        ("shop pools by transaction", "met", "pool_mode: transaction"),
    ]
    assert [node["changes"] for node in told["nodes"]] == [
        ["app/east: ready → maint"], ["app/east: ready → maint"], ["shop: open → paused"]]


def test_a_server_is_taken_out_drained_and_put_back(pair: Lab, runs: Runs) -> None:
    keys = "kind: haproxy.server, hosts: east-web"
    where = "backend: app, server: east, socket: /run/haproxy.sock"
    code, state, text = runs.run(
        f"  - {{id: drain, {keys}, with: {{{where}, state: drain}}}}\n"
        f"  - {{id: out, {keys}, with: {{{where}, state: maint}}}}\n"
        f"  - {{id: again, {keys}, with: {{{where}, state: maint}}}}\n"
    )
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "already done: app/east is maint" in text
    assert state_of(pair, "east") & 1 and not state_of(pair, "west")
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert state_of(pair, "east") == 0


def test_several_servers_change_with_one_command(pair: Lab, runs: Runs) -> None:
    step = ("  - {id: over, kind: haproxy.server, hosts: east-web, with: {backend: app, "
            "servers: {east: maint, west: ready}, socket: /run/haproxy.sock}}\n")
    pair[OLD].run("echo 'set server app/west state drain' | socat - /run/haproxy.sock")
    code, state, text = runs.run(step)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "app/east is maint, app/west is ready" in text
    assert state_of(pair, "east") & 1 and not state_of(pair, "west")
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert not state_of(pair, "east") and state_of(pair, "west") & 8
    pair[OLD].run("echo 'set server app/west state ready' | socat - /run/haproxy.sock")


@pytest.mark.parametrize(("server", "why"), [
    ("up", ""), ("down", "its health check finds it down"), ("idle", "its weight is 0"),
])
def test_a_server_that_is_ready_takes_requests(
    pair: Lab, runs: Runs, server: str, why: str
) -> None:
    """It counts as running from the moment it leaves maintenance, before anybody looked at it."""
    code, _, text = runs.run(
        f"  - {{id: in, kind: haproxy.server, hosts: east-web, poll: {{every: 50ms, timeout: 1s}},"
        f" with: {{backend: checked, server: {server}, state: ready,"
        " socket: /run/haproxy.sock}}\n"
    )
    assert code == (ExitCode.HELD if why else ExitCode.OK), text
    assert f"checked/{server} is ready" + (f", but {why}" if why else "") in text
    runs.rollback()


def test_a_server_that_is_not_there(pair: Lab, runs: Runs) -> None:
    code, _, text = runs.run(
        "  - {id: out, kind: haproxy.server, hosts: east-web, with: {backend: app, server: north, "
        "state: maint, socket: /run/haproxy.sock}}\n"
    )
    assert code == ExitCode.HELD and "HAProxy has no server app/north" in text


def test_statements_are_executed_and_taken_back(pair: Lab, runs: Runs) -> None:
    ask = f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -At -c 'TABLE settings'"
    pair[OLD].run(f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -q -c "
                  "\"CREATE TABLE settings AS SELECT 'open'::text AS shop\"")
    code, state, text = runs.run(
        "  - id: close\n    kind: sql.query\n    with:\n      database: east\n"
        "      statements: [UPDATE settings SET shop = 'closed']\n"
        "      done_when: SELECT shop = 'closed' FROM settings\n"
        "      back: [UPDATE settings SET shop = 'open']\n"
        "  - {id: seen, kind: sql.assert, with: {database: west, equals: closed, "
        "query: SELECT shop FROM settings}, poll: {every: 50ms, timeout: 5s}}\n"
        "  - {id: one, kind: sql.assert, with: {database: east, at_most: 1, at_least: 1, "
        "query: SELECT count(*) FROM settings}}\n"
    )
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert pair[OLD].run(ask).stdout == "closed\n"
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert pair[OLD].run(ask).stdout == "open\n"
    assert pair[NEW].run("true").returncode == 0


def test_an_answer_that_is_not_what_it_should_be(pair: Lab, runs: Runs) -> None:
    code, _, text = runs.run(
        "  - {id: seen, kind: sql.assert, with: {database: west, at_least: 5, "
        "query: SELECT count(*) FROM orders WHERE id < 0}}\n"
    )
    assert code == ExitCode.HELD and "west says 0, below 5" in text


def test_extensions_of_databases(pair: Lab, runs: Runs) -> None:
    """What the new side lacks is told; all that the old one has, it offers."""
    code, state, text = runs.run(
        "  - {id: fit, kind: capacity.check, with: {extensions: {west: plpgsql}, "
        "extensions_like: {west: east}}}\n"
        "  - {id: unfit, kind: capacity.check, with: {extensions: {west: [plpgsql, no_such]}}}\n"
    )
    assert code == ExitCode.HELD, text
    assert "it does not offer no_such" in " ".join(text.split())
    assert state.nodes["fit"].outputs["items"][1] == {
        "item": "database west like east", "ok": True, "seen": "it offers plpgsql"}


@without("pgbouncer")
def test_clients_are_held_and_none_fails(pair: Lab, runs: Runs) -> None:
    """A client that writes through the pool waits while it is paused."""
    pair[OLD].run(f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -q -c "
                  "'CREATE TABLE held (id serial); GRANT ALL ON ALL TABLES IN SCHEMA public TO app;"
                  "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app'")
    write = [f"{postgres.programs()}/psql", "-q", "-h", "203.0.113.10", "-p", "6432", "-U", "app",
             "shop", "-c", "INSERT INTO held DEFAULT VALUES"]
    pool = ("  pool: {engine: pgbouncer, host: west-web, user: postgres}\n")
    runs.head += pool
    pair.run("client", *write)
    code, state, text = runs.run(
        "  - {id: hold, kind: pgbouncer.pause, with: {console: pool, pool: shop}}\n"
    )
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    waiting = pair.start("client", *write)
    count = (f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -At -c "
             "'SELECT count(*) FROM held'")
    shown = f"{postgres.programs()}/psql -h 203.0.113.10 -p 6432 -U postgres pgbouncer -At -c"
    wait_for("the client waits", lambda: "|1|" in pair[NEW].run(
        f"{shown} 'SHOW POOLS' | cut -d'|' -f1,2,4,5 | grep ^shop | sed 's/$/|/;s/^[^|]*|[^|]*|/|/'"
    ).stdout)
    assert waiting.poll() is None and pair[OLD].run(count).stdout == "1\n"
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert waiting.wait(10) == 0
    assert pair[OLD].run(count).stdout == "2\n"


@without("pgbouncer")
def test_a_pause_of_somebody_that_still_waits_is_none(pair: Lab, runs: Runs) -> None:
    """PgBouncer says paused from the first moment of a pause, while a transaction goes on."""
    through = [f"{postgres.programs()}/psql", "-q", "-h", "203.0.113.10", "-p", "6432"]
    pair[OLD].run(f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -q -c "
                  "'CREATE TABLE late (id int); GRANT ALL ON late TO app'")
    runs.head += "  pool: {engine: pgbouncer, host: west-web, user: postgres}\n"
    pools = f"{through[0]} -h 203.0.113.10 -p 6432 -U postgres pgbouncer -At -c"
    writing = pair.start("client", *through, "-U", "app", "shop", "-c",
                         "BEGIN; INSERT INTO late VALUES (1); SELECT pg_sleep(3); COMMIT")
    wait_for("a transaction", lambda: "shop|app|1|0|0|1|" in pair[NEW].run(
        f"{pools} 'SHOW POOLS' | cut -d'|' -f1-4,6,7 | sed 's/$/|/'").stdout)
    pausing = pair.start("client", *through, "-U", "postgres", "pgbouncer", "-c", "PAUSE shop")
    wait_for("a pause", lambda: "shop" in pair[NEW].run(
        f"{pools} 'SHOW DATABASES' | grep '^shop|.*|1|0$'", check=False).stdout)
    code, state, text = runs.run(
        "  - {id: hold, kind: pgbouncer.pause, with: {console: pool, pool: shop}}\n"
    )
    seen = pair[OLD].run(f"{postgres.programs()}/psql -h {postgres.SOCKETS} -U postgres -At -c "
                         "'TABLE late'").stdout
    assert (code, state.phase, seen) == (ExitCode.OK, RunPhase.DONE, "1\n"), text
    assert "already done" not in text
    assert (writing.wait(10), pausing.wait(10)) == (0, 0)
    pair[NEW].run(f"{pools} 'RESUME shop'")
