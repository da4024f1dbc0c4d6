"""The shop of examples/web-postgres on the hosts of the lab, its customers, and its move."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from runbook.journal import Store, open_store
from runbook.model.folding import fold
from runbook.model.runstate import RunState
from runbook.model.state import NodeState
from tests.lab import postgres
from tests.lab.customers import Request, outage, read
from tests.lab.lab import MACHINES, Lab
from tests.lab.names import PRIMARY, SECONDARY, TSIG
from tests.lab.postgres import DATA, SOCKETS
from tests.lab.processes import kill, listening, wait_for
from tests.lab.switchover import NEW, OLD, PASSWORD

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "web-postgres"
STACK = EXAMPLE / "stack"
VARIANTS = ("dns-only", "forward", "hold")
TTL = 1

# Real name servers and caches take real time: minutes become seconds. Nothing else of the
# example's runbooks is changed.
SHORTER = {"low_ttl: 60, skew: 5s": f"low_ttl: {TTL}, skew: 1s"}

_HAPROXY = """\
mkdir -p /run/haproxy
SITE={site} setsid haproxy -db -f /etc/shop/haproxy.cfg >>/var/log/haproxy.log 2>&1 </dev/null &
"""
_NGINX = """\
mkdir -p /var/log/nginx /var/lib/nginx
setsid nginx -c /etc/shop/nginx.conf -g 'daemon off;' >>/var/log/nginx.log 2>&1 </dev/null &
"""
_POOL = """\
setsid runuser -u postgres -- pgbouncer /etc/shop/pgbouncer.ini \
  >>/var/log/pgbouncer.log 2>&1 </dev/null &
"""
_SHOP = """\
export SITE={site} DATABASE='host=127.0.0.1 port=6432 dbname=shop user=app password={password}'
exec python3 /srv/shop/shop.py
"""
_FILL = f"""\
$psql -q -v password={PASSWORD} -f /srv/shop/schema.sql
$psql -q -c "CREATE ROLE runbook SUPERUSER LOGIN PASSWORD '{PASSWORD}'"
$psql -q -d shop -c "CREATE TABLE archive AS SELECT n AS id, md5(n::text) AS a,
  md5((n + 1)::text) AS b FROM generate_series(1, {{rows}}) AS n"
"""
PORTS = {80, 8000, 8080, 8081, 6432, 5433}
"""That are listened at on a web host, the database apart."""


def missing() -> str:
    """Why the shop cannot be played here; empty when it can."""
    lacking = [p for p in ("haproxy", "nginx", "pgbouncer", "socat") if shutil.which(
        p, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if not postgres.programs():
        lacking.append("postgresql")
    if subprocess.run(["/usr/bin/python3", "-c", "import psycopg2"], capture_output=True,
                      check=False).returncode:
        lacking.append("python3-psycopg2")
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def zone(ttl: int = 4) -> str:
    """The example's zone with a secondary, and TTLs of seconds."""
    text = (EXAMPLE / "shop.example.zone").read_text()
    assert "$TTL 3600" in text
    second = f"@ IN NS ns2.shop.example.\nns2 IN A {SECONDARY}\n"
    return text.replace("$TTL 3600", f"$TTL {ttl}") + second


def files() -> dict[str, dict[str, str]]:
    """What the web hosts have on their disks before the move."""
    found = {}
    for host, site in ((OLD, "east"), (NEW, "west")):
        found[host] = {
            **{f"/etc/shop/{name}": (STACK / name).read_text()
               for name in ("haproxy.cfg", "nginx.conf", "pgbouncer.ini")},
            "/etc/shop/userlist.txt": f'"app" "{PASSWORD}"\n"runbook" "{PASSWORD}"\n',
            **{f"/srv/shop/{name}": (STACK / name).read_text()
               for name in ("shop.py", "schema.sql")},
            **{f"/srv/shop/static/{path.name}": path.read_text()
               for path in sorted((STACK / "static").iterdir())},
            "/etc/runbook-lab/boot.d/haproxy": _HAPROXY.format(site=site),
            "/etc/runbook-lab/boot.d/nginx": _NGINX,
            "/etc/runbook-lab/boot.d/pgbouncer": _POOL,
            "/etc/runbook-lab/units/shop": _SHOP.format(site=site, password=PASSWORD),
            "/etc/runbook-lab/enabled/shop": "",
        }
    found[OLD] |= {f"/srv/shop/files/{path.name}": path.read_text()
                   for path in sorted((STACK / "files").iterdir())}
    found[NEW]["/srv/shop/files/.keep"] = ""
    return found


def open_shop(rows: int = 1000) -> Lab:
    """A lab in which the shop is open in the east. ``rows``: of an archive that makes the
    database larger; 400000 are about 65 MB."""
    lab = Lab.open(zone(), files=files())
    try:
        postgres.make_pair(lab, _FILL.format(rows=rows))
        for host in (OLD, NEW):
            wait_for(f"{host} serves", lambda host=host: listening(lab[host].init) >= PORTS)
        wait_for("the shop is open", lambda: '"site": "east"' in _get(lab, "shop.example"))
        wait_for("the new side answers", lambda: '"site": "west"' in _get(lab, MACHINES[NEW]))
    except BaseException:
        lab.close()
        raise
    return lab


def _get(lab: Lab, host: str, path: str = "/health") -> str:
    return lab.run("client", "curl", "-s", "-m", "3", f"http://{host}{path}", check=False).stdout


def orders_at(lab: Lab, host: str) -> set[str]:
    """The orders that the database of a side has."""
    ask = f"{postgres.programs()}/psql -h {SOCKETS} -U postgres -d shop -At -c"
    return set(lab[host].run(f"{ask} 'SELECT id FROM orders'").stdout.split())


def haproxy(lab: Lab, host: str, line: str) -> str:
    """What HAProxy's runtime socket on a host answers."""
    return lab[host].run(f"echo '{line}' | socat - /run/haproxy/admin.sock").stdout


def back_to_the_start(lab: Lab) -> None:
    """The shop in the east with the west following, however the last move left them. What the
    west alone had is gone."""
    for host in (OLD, NEW):
        lab[host].run(f"runuser -u postgres -- {postgres.programs()}/pg_ctl -D {DATA} stop -m fast "
                      "-w >&2 || true")
        for backend in ("shop", "database"):
            for server in ("east", "west"):
                state = "ready" if host.startswith(server) else "maint"
                haproxy(lab, host, f"set server {backend}/{server} state {state}")
    lab[OLD].run(f"rm -f {DATA}/standby.signal; runuser -u postgres -- env LC_ALL=C "
                 f"{postgres.programs()}/pg_ctl -D {DATA} -w -l {SOCKETS}/log start </dev/null >&2;"
                 "PGOPTIONS='-c default_transaction_read_only=off' "
                 f"{postgres.programs()}/psql -q -h {SOCKETS} -U postgres -d shop "
                 "-c 'ALTER SYSTEM RESET default_transaction_read_only' "
                 "-c 'SELECT pg_reload_conf()' -c 'TRUNCATE orders' >&2")
    lab[NEW].run(f"rm -rf {DATA}")
    postgres.copy(lab)
    key = TSIG.replace(":hmac-sha256:", " ")
    lines = [f"server {PRIMARY}", "zone shop.example", f"key hmac-sha256:{key}"]
    for line in zone().splitlines():
        name, _, record = line.partition(" IN ")
        rtype, _, value = record.strip().partition(" ")
        if rtype in {"A", "CNAME", "TXT"}:
            full = "shop.example." if name.strip() == "@" else f"{name.strip()}.shop.example."
            target = value.strip().replace("@", "shop.example.")
            lines += [f"update delete {full} {rtype}", f"update add {full} 4 {rtype} {target}"]
    lab.run("control", "sh", "-c", 'printf "%s\\n" "$@" | nsupdate', "sh", *lines, "send")
    lab[OLD].run("echo RESUME shop | PGPASSWORD=" + PASSWORD +
                 f" {postgres.programs()}/psql -q -h 127.0.0.1 -p 6432 -U runbook pgbouncer "
                 ">&2 || true")
    wait_for("the shop is open", lambda: '"site": "east"' in _get(lab, "shop.example"), 30)
    wait_for("the new side answers", lambda: '"site": "west"' in _get(lab, MACHINES[NEW]), 30)


class Customers:
    """``with Customers(lab, folder) as customers``: they come, and leave at the end."""

    def __init__(self, lab: Lab, folder: Path, seconds: float = 120) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lab = lab
        self.records = folder / "customers"
        self.ended = 0.0
        self._process = lab.start(
            "client", sys.executable, str(Path(__file__).with_name("customers.py")),
            "shop.example", str(self.records), str(seconds),
        )

    def __enter__(self) -> Customers:
        try:
            self.more(30)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def requests(self) -> list[Request]:
        return read(self.records)

    @property
    def acknowledged(self) -> set[str]:
        return {one.order for one in self.requests if one.order}

    @property
    def failed_writes(self) -> int:
        return sum(one.kind == "write" and not one.ok for one in self.requests)

    def outage(self, kind: str = "write") -> float:
        return outage(self.requests, kind, self.ended or None)

    def more(self, count: int) -> None:
        """Wait until so many more orders are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_for(f"{count} more orders", lambda: len(self.acknowledged) >= enough, 30)

    def close(self) -> None:
        """They leave; what is under way comes to its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                kill([self._process.pid])
                self._process.wait()
            self.ended = time.time()


class Move:
    """One move by a variant's runbook, driven at the control desk."""

    def __init__(self, lab: Lab, folder: Path, variant: str, *, fail: str = "") -> None:
        self.lab = lab
        self.folder = folder
        place = folder / "runbook"
        shutil.copytree(EXAMPLE, place)
        path = place / f"{variant}.yml"
        text = path.read_text()
        for old, new in SHORTER.items():
            assert text.count(old) == 1, (old, text.count(old))
            text = text.replace(old, new)
        path.write_text(text)
        inventory = (place / "inventory.yml").read_text()
        config = folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n"
                          f"  IdentityFile {lab.login_key}\n")
        (place / "inventory.yml").write_text(
            f"ssh_config: {config}\nknown_hosts: [{lab.known_hosts}]\n{inventory}"
        )
        self._file, self._fail = path, fail
        self.log = ""

    def run(self) -> int:
        """From the beginning to the end, with everybody saying yes; the exit code."""
        return self._to_the_end(
            sys.executable, "-m", "tests.lab.controller", str(self._state_folder),
            str(self._file), *([self._fail] if self._fail else []),
        )

    def killed_once(self, step: str) -> int:
        """As :meth:`run`, but the controller is killed as soon as a step is seen to be done, and
        another one takes the run up."""
        code = self._drive(
            sys.executable, "-m", "tests.lab.controller", str(self._state_folder),
            str(self._file),
            until=lambda state: state.step_state(step) is NodeState.VERIFIED,
        )
        assert code is None, f"it ended before {step} was seen\n{self.log}"
        return self._to_the_end(
            sys.executable, "-m", "runbook", "resume", self.state().run_id, "--plain",
            "--state", str(self._state_folder),
        )

    def rollback(self) -> int:
        return self._to_the_end(
            sys.executable, "-m", "runbook", "rollback", self.state().run_id, "--plain", "--yes",
            "--why", "the test wants it", "--state", str(self._state_folder),
        )

    def _to_the_end(self, *command: str) -> int:
        code = self._drive(*command)
        assert code is not None
        return code

    def _drive(
        self, *command: str, patience: float = 90,
        until: Callable[[RunState], bool] = lambda state: False,
    ) -> int | None:
        """The exit code; None where it was killed as ``until`` came true."""
        path = self.folder / "log"
        with path.open("ab") as log:
            controller = self.lab.start("control", *command, output=log, env={
                "SHOP_TSIG": TSIG, "SHOP_DB_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT),
                "HOME": str(self.folder), "RUNBOOK_USER": "operator", "COLUMNS": "200",
                "PATH": os.environ["PATH"],
            })
        end, pause = time.monotonic() + patience, Event()
        try:
            while (code := controller.poll()) is None:
                assert time.monotonic() < end, f"it does not end\n{path.read_text()}"
                state = self._answer()
                if state is not None and until(state):
                    return None
                pause.wait(0.05)
        finally:
            if controller.poll() is None:
                kill([controller.pid])
                controller.wait()
            self.log = path.read_text(errors="replace")
        return code

    @property
    def _state_folder(self) -> Path:
        return self.folder / "state"

    def store(self) -> Store:
        return open_store(self._state_folder)

    def state(self) -> RunState:
        store = self.store()
        try:
            found = store.latest_run_id()
            assert found is not None, self.log
            plan, events = store.load(found)
            return fold(found, plan, events)
        finally:
            store.close()

    def _answer(self) -> RunState | None:
        """Lead and database administrator say yes, once they are asked."""
        if not (self._state_folder / "journal.db").exists():
            return None
        store = self.store()
        try:
            run_id = store.latest_run_id()
            if run_id is None:
                return None
            plan, events = store.load(run_id)
            state = fold(run_id, plan, events)
            if events and state.nodes["go"].question:
                said = {d.role for d in state.decisions if d.node == "go"}
                waiting = {str(m.data.get("role")) for m in store.inbox(run_id)}
                for role in {"lead", "dba"} - said - waiting:
                    store.post(run_id, "approve", who=f"the {role}", now=time.time(), node="go",
                               data={"role": role, "why": "", "evidence": ""})
            return state
        finally:
            store.close()
