"""Around a move: what the new side must have, and when the old one may be switched off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.state import RunPhase
from tests.lab.lab import DEFAULT_ZONE, MACHINES, Lab
from tests.lab.names import PRIMARY, TSIG
from tests.lab.needs import marks, without
from tests.lab.network import inside
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.transports.web_lab import self_signed

pytestmark = [*marks, without("nginx")]

OLD, NEW = MACHINES["east-web"], MACHINES["west-web"]
NGINX = """\
pid /run/nginx.pid;
error_log /var/log/nginx-error.log;
events { worker_connections 64; }
http {
  access_log off;
  server { listen 443 ssl; ssl_certificate /etc/site.pem; ssl_certificate_key /etc/site.pem; }
}
"""
BOOT = ("mkdir -p /var/lib/nginx\nsetsid nginx -g 'daemon off;' >>/var/log/nginx.log 2>&1 "
        "</dev/null &\n")
ZONES = f"""\
secrets: {{tsig: {{env: LAB_TSIG}}}}
zones: {{shop.example: {{servers: [{PRIMARY}], key: tsig}}}}
"""


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), "shop.example")


@pytest.fixture(scope="module")
def opened(pem: Path) -> Iterator[Lab]:
    files = {
        "west-web": {"/etc/nginx/nginx.conf": NGINX, "/etc/site.pem": pem.read_text(),
                     "/etc/runbook-lab/boot.d/nginx": BOOT},
        "east-web": {"/srv/requests": "3\n", "/etc/runbook-lab/units/shop": "exec sleep infinity\n",
                     "/etc/runbook-lab/enabled/shop": ""},
    }
    zone = DEFAULT_ZONE.replace("$TTL 8", "$TTL 2")
    assert zone != DEFAULT_ZONE
    with Lab.open(zone, files=files) as lab:
        lab["east-web"].run("systemctl start shop")
        wait_for("nginx", lambda: lab.run(
            "control", "curl", "-sk", "-o", "/dev/null", f"https://{NEW}/", check=False
        ).returncode == 0)
        yield lab


@pytest.fixture
def runs(opened: Lab, pem: Path, tmp_path: Path) -> Runs:
    return Runs(opened, tmp_path, ZONES, LAB_TSIG=TSIG, SSL_CERT_FILE=str(pem))


FIT = f"""\
  - id: pre
    playbook: preflight
    with:
      new: west-web
      disk: {{/srv: 1M}}
      inodes: {{/srv: 10}}
      memory: 10M
      programs: {{rsync: ">=3", nginx: ">=1.18,<99", sh: any}}
      packages: {{nginx-light: ">=1.18", libc6: same}}
      like: east-web
      everybody: east-web or west-web
      skew: 5s
      reach: [{{host: {NEW}, port: 22, via: east-web}}]
      certificates: {{shop.example: "{NEW}:443"}}
      certificate_left: 1h
      zone: shop.example
      addresses: {OLD}
"""


def test_a_new_side_that_is_fit(opened: Lab, runs: Runs) -> None:
    code, state, text = runs.run(FIT.replace("sh: any", "bash: any"))
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    items = state.nodes["pre/capacity@west-web"].outputs["items"]
    assert [one["item"] for one in items] == [
        "disk /srv", "files /srv", "memory", "rsync", "nginx", "bash", "nginx-light", "libc6"]
    assert all(one["ok"] for one in items)
    told = state.nodes["pre/certificates"].outputs["items"][0]["seen"]
    assert told.startswith("for shop.example, by shop.example, until ")


def test_everything_that_is_missing_is_told_together(opened: Lab, runs: Runs) -> None:
    """By a probe, all of the playbook; by a run, all of one host."""
    unfit = FIT
    for old, new in {
        "/srv: 1M": "/srv: 900T", "/srv: 10}": "/srv: 999999999999}", "memory: 10M": "memory: 90T",
        "rsync: \">=3\"": "rsync: \">=99\"", "sh: any": "no-such-program: any",
        "libc6: same": "no-such-package: same", "port: 22": "port: 23", "certificate_left: 1h":
        "certificate_left: 30d", f"addresses: {OLD}": "addresses: 192.0.2.250",
        "skew: 5s": "skew: 1m",
    }.items():
        assert unfit.count(old) == 1, old
        unfit = unfit.replace(old, new)
    opened.wrong_clock("east-web", "+3d")
    try:
        code, probed = runs.probe(unfit)
    finally:
        opened.wrong_clock("east-web", "")
    assert code == ExitCode.REHEARSAL_FAILED, probed
    of_host = (
        "6 of 8 are not enough: disk /srv: ", ", wanted 900T", "; files /srv: ", "; memory: ",
        "; rsync: ", ", wanted >=99; no-such-program: not there; no-such-package: not there",
    )
    for said in (
        *of_host, "3d ahead, wanted 1m", f"{NEW}:23 is not open", "left, wanted 30d",
        "0 record sets lead to 192.0.2.250",
    ):
        assert said in probed, (said, probed)
    code, state, text = runs.run(unfit)
    assert code == ExitCode.HELD, text
    for said in of_host:
        assert said in " ".join(text.split()), (said, text)
    assert not any(node.intended for node in state.nodes.values())


@pytest.mark.parametrize(("name", "trusted", "said"), [
    ("shop.example", False, "certificate is not valid"),
    ("other.example", True, "for shop.example, by shop.example"),
    ("other.example", True, "Hostname mismatch"),
])
def test_a_certificate_that_no_client_would_take(
    opened: Lab, pem: Path, name: str, trusted: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runbook.model.secrets import Redactor
    from runbook.transports.net import NetTransport

    monkeypatch.setenv("SSL_CERT_FILE", str(pem) if trusted else "/dev/null")
    net = NetTransport(endpoints=None, tunnel=None, secrets=_NoSecrets(), redactor=Redactor())
    with inside(opened.network.namespace("control")):
        found = net.certificate(NEW, 443, name=name)
    assert said in f"for {', '.join(found.names)}, by {found.issuer}: {found.error}"
    assert found.error and found.not_after > 0


class _NoSecrets:
    def resolve_marks(self, text: str) -> str:
        return text


AFTER = f"""\
  - {{id: lower, kind: dns.ttl, with: {{zone: shop.example, points_at: {OLD}, ttl: 1}}}}
  - {{id: lowered, kind: dns.wait_ttl, with: {{of: lower, skew: 0s}}}}
  - {{id: flip, kind: dns.flip, with: {{zone: shop.example, from: {OLD}, to: {NEW}}}}}
  - {{id: drained, kind: dns.wait_ttl, with: {{of: flip, skew: 0s}}}}
  - id: after
    playbook: aftercare
    with:
      zone: shop.example
      addresses: {OLD}
      lowered: lower
      off_at: "{{{{ outputs.drained.until }}}}"
      old: east-web
      traffic: cat /srv/requests
      stop: [shop]
"""


def test_the_old_side_is_switched_off_on_evidence_and_can_come_back(
    opened: Lab, runs: Runs
) -> None:
    east = opened["east-web"]
    code, state, text = runs.run(AFTER)
    assert code == ExitCode.HELD, text
    assert "there is still traffic at the old side" in text and "3 requests" in text
    assert opened.dig(f"@{PRIMARY}", "shop.example", "A") == [NEW]
    assert ttl(opened) == 2, "the TTLs are back, whatever else is not"
    east.run("echo 0 >/srv/requests")
    assert runs.command("retry", "after/quiet@east-web")[0] == ExitCode.OK
    going = opened.start("control", *runs.words("resume", "--plain"), env=runs.env)
    wait_for("the question", runs.asked, 60)
    assert east.run("systemctl is-active shop").stdout == "active\n"
    code, _, text = runs.command("approve", "after/agree", "--evidence", "graphs are flat")
    assert code == ExitCode.OK, text
    assert going.wait(60) == ExitCode.OK
    assert east.run("systemctl is-active shop", check=False).stdout == "inactive\n"
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert east.run("systemctl is-active shop; systemctl is-enabled shop").stdout == (
        "active\nenabled\n")
    assert opened.dig(f"@{PRIMARY}", "shop.example", "A") == [OLD] and ttl(opened) == 2


def ttl(lab: Lab) -> int:
    done = lab.run("control", "dig", "+noall", "+answer", f"@{PRIMARY}", "shop.example", "A")
    return int(done.stdout.split()[1])
