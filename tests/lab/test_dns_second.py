"""A second provider: PowerDNS by its HTTP API, on a host of the lab, beside BIND."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.cli.session import Show, start
from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.journal import open_store
from runbook.model.state import RunPhase
from tests.lab.dns_moves import Done, _done, take_back
from tests.lab.lab import MACHINES, Lab
from tests.lab.names import PRIMARY, SECONDARY, TSIG
from tests.lab.needs import marks, without
from tests.lab.network import inside
from tests.lab.processes import wait_for

pytestmark = [*marks, without("pdns_server"), without("sqlite3")]

HOST = "west-probe"
SERVER = MACHINES[HOST]
OLD, NEW = "198.51.100.10", "203.0.113.10"
KEY = "only-in-the-lab"
ZONE = f"""\
$ORIGIN shop.example.
$TTL 3
@ IN SOA ns1 hostmaster 1 1 1 3600 1
@ IN NS ns1
@ IN NS ns2
ns1 IN A {PRIMARY}
ns2 IN A {SECONDARY}
@ IN A {OLD}
"""
OTHER = f"""\
$ORIGIN other.example.
$TTL 3
@ IN SOA ns.other.example. hostmaster 1 30 2 3600 1
@ IN NS ns
ns IN A {SERVER}
@ IN A {OLD}
www IN CNAME other.example.
mail IN A {OLD}
"""
CONFIG = f"""\
launch=gsqlite3
gsqlite3-database=/srv/pdns/pdns.sqlite3
local-address={SERVER}
socket-dir=/srv/pdns
api=yes
api-key={KEY}
webserver=yes
webserver-address={SERVER}
webserver-port=8081
webserver-allow-from=192.0.2.0/24
zone-cache-refresh-interval=0
cache-ttl=0
query-cache-ttl=0
"""
HEAD = f"""\
runbook: move-zones
policy: {{on_failure: rollback}}
secrets: {{tsig: {{env: LAB_TSIG}}, api: {{env: LAB_API}}}}
zones:
  shop.example: {{servers: [{PRIMARY}], key: tsig}}
  other.example: {{provider: powerdns, endpoint: "http://{SERVER}:8081", key: api,
                  servers: [{SERVER}]}}
steps:
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(ZONE) as lab:
        machine = lab[HOST]
        machine.run(f"""set -e
mkdir -p /srv/pdns; cd /srv/pdns
cat >pdns.conf <<'END'
{CONFIG}END
cat >other.zone <<'END'
{OTHER}END
sqlite3 pdns.sqlite3 </usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
pdnsutil --config-dir=/srv/pdns load-zone other.example other.zone >&2
setsid pdns_server --config-dir=/srv/pdns --daemon=no --guardian=no </dev/null >log 2>&1 &
""")
        wait_for("PowerDNS", lambda: bool(lab.dig(f"@{SERVER}", "other.example", "SOA")))
        yield lab


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TSIG", TSIG)
    monkeypatch.setenv("LAB_API", KEY)


def move(lab: Lab, folder: Path, steps: str) -> Done:
    file = folder / "runbook.yml"
    file.write_text(HEAD + steps)
    store = open_store(folder / "state")
    with inside(lab.network.namespace("control")):
        run_id, driven = start(load_plan(file, []), store, show=Show.NOTHING)
    return _done(store, run_id, driven)


def served(lab: Lab) -> list[str]:
    return [
        line for name in ("other.example", "mail.other.example", "www.other.example")
        for line in lab.run("control", "dig", "+noall", "+answer", f"@{SERVER}", name, "A")
        .stdout.split("\n") if line
    ]


def test_a_cutover_over_its_api_and_back(lab: Lab, tmp_path: Path) -> None:
    before = served(lab)
    assert OLD in " ".join(before)
    done = move(lab, tmp_path, (
        f"  - {{id: dns, playbook: dns/cutover, with: {{zone: other.example, from: {OLD}, "
        f"to: {NEW}, ttl: 1, skew: 0s, check: www}}}}\n"
    ))
    assert done.driven.exit_code == ExitCode.OK, done.log
    assert served(lab) == [line.replace(OLD, NEW) for line in before]
    back = take_back(lab, tmp_path, done)
    assert back.state.phase is RunPhase.ROLLED_BACK, back.log
    assert served(lab) == before


def test_two_providers_in_one_move_and_the_second_one_fails(lab: Lab, tmp_path: Path) -> None:
    """Several zones are not atomic: what the first took is taken back."""
    before = served(lab)
    done = move(lab, tmp_path, (
        f"  - {{id: one, kind: dns.flip, with: {{zone: shop.example, from: {OLD}, to: {NEW}}}}}\n"
        "  - {id: stop, kind: shell, undo: 'true', with: {command: 'true'}}\n"
        f"  - {{id: two, kind: dns.flip, with: {{zone: other.example, from: {OLD}, to: {NEW}}}, "
        "verify: [{command: 'false'}]}\n"
    ))
    assert done.state.phase is RunPhase.ROLLED_BACK, done.log
    assert lab.dig(f"@{PRIMARY}", "shop.example", "A") == [OLD]
    assert served(lab) == before


def test_a_wrong_key_of_the_api_changes_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_API", "another-key")
    before = served(lab)
    done = move(lab, tmp_path, (
        f"  - {{id: two, kind: dns.flip, with: {{zone: other.example, from: {OLD}, to: {NEW}}}}}\n"
    ))
    assert done.driven.exit_code != ExitCode.OK
    assert "another-key" not in done.log and "key" in done.driven.why
    assert served(lab) == before
