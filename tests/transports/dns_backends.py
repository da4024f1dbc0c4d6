"""Every provider with the same zone in it, for one contract test over all of them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook.errors import Errored
from runbook.model.actions import ActionResult, ChangeRecordSet
from runbook.model.dns import PROVIDERS, Change, ProviderCaps, RRset, Zone
from runbook.sandbox.nameserver import AuthoritativeServer
from runbook.transports.dns import DnsTransport, read_zone_file
from tests.dns_lab import KEY, KEYS, SECRET, SHOP, TSIG, HandClock, OneSecret
from tests.transports.api_double import Double
from tests.transports.cloudflare_double import TOKEN, CloudflareDouble
from tests.transports.powerdns_double import API_KEY, PowerDnsDouble
from tests.transports.route53_double import ACCESS_KEY, SECRET_KEY, Route53Double

NAMED = shutil.which("named") or shutil.which("named", path="/usr/sbin")
PDNS = shutil.which("pdns_server") or shutil.which("pdns_server", path="/usr/sbin")
PDNSUTIL = shutil.which("pdnsutil") or shutil.which("pdnsutil", path="/usr/bin")
AWS_KEYS = f"{ACCESS_KEY}:{SECRET_KEY}"


@dataclass
class Backend:
    """One provider, served on loopback. ``double`` is None where it is the real software."""

    zone: Zone
    dns: DnsTransport
    records: tuple[RRset, ...]
    """What the zone holds at the start, as far as this provider shows it."""
    transport: Callable[[str], DnsTransport]
    """The same with another secret."""
    double: Double | None = None
    text: str = '"semi; \\"quoted\\" back\\\\slash"'
    """A text as odd as it can hold."""

    @property
    def caps(self) -> ProviderCaps:
        return PROVIDERS[self.zone.provider]

    def perform(self, *changes: Change) -> ActionResult:
        return self.dns.perform(ChangeRecordSet(zone=self.zone.name, changes=changes), KEY)

    def get(self, name: str, rtype: str) -> RRset | None:
        return self.dns.get(self.zone, name, rtype)


def shop_records(folder: Path) -> tuple[RRset, ...]:
    file = folder / "shop.zone"
    file.write_text(SHOP)
    return read_zone_file(file, "shop.example")


def made(
    zone: Zone, secret: str, records: tuple[RRset, ...], double: Double | None = None,
    timeout: float = 2.0,
) -> Backend:
    def transport(value: str) -> DnsTransport:
        return DnsTransport(
            (zone,), secrets=OneSecret(value), clock=HandClock(time.time()), timeout=timeout,
            api_timeout=timeout,
        )

    return Backend(zone, transport(secret), records, transport, double)


@contextmanager
def rfc2136(folder: Path) -> Iterator[Backend]:
    server = AuthoritativeServer({"shop.example.": SHOP}, KEYS, HandClock())
    port = server.start()
    zone = Zone(name="shop.example.", servers=(f"127.0.0.1:{port}",), key="tsig")
    try:
        yield made(zone, TSIG, shop_records(folder))
    finally:
        server.stop()


@contextmanager
def powerdns(folder: Path) -> Iterator[Backend]:
    double, records = PowerDnsDouble(), shop_records(folder)
    double.fill(records)
    zone = Zone(name="shop.example.", provider="powerdns", endpoint=double.url, key="api")
    with ExitStack() as stack:
        stack.callback(double.stop)
        yield made(zone, API_KEY, records, double)


@contextmanager
def route53(folder: Path) -> Iterator[Backend]:
    double, records = Route53Double(), shop_records(folder)
    double.fill(records)
    zone = Zone(name="shop.example.", provider="route53", endpoint=double.url, key="aws")
    with ExitStack() as stack:
        stack.callback(double.stop)
        yield made(zone, AWS_KEYS, records, double)


@contextmanager
def cloudflare(folder: Path) -> Iterator[Backend]:
    """Its own NS set is not among the records; the lowest TTL is 60."""
    records = tuple(
        one.with_ttl(max(one.ttl, 60))
        for one in shop_records(folder) if one.key != ("shop.example.", "NS")
    )
    double = CloudflareDouble()
    double.fill(records)
    zone = Zone(name="shop.example.", provider="cloudflare", endpoint=double.url, key="token")
    with ExitStack() as stack:
        stack.callback(double.stop)
        yield made(zone, TOKEN, records, double)


@contextmanager
def bind(folder: Path) -> Iterator[Backend]:
    """BIND itself, as an ordinary process."""
    assert NAMED is not None
    port, records = free_port(), shop_records(folder)
    (folder / "named.conf").write_text(f"""
key "shop-key" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
controls {{ }};
options {{
  directory "{folder}"; pid-file none; session-keyfile none; managed-keys-directory "{folder}";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify no;
}};
zone "shop.example" {{
  type primary; file "shop.zone";
  allow-update {{ key shop-key; }}; allow-transfer {{ key shop-key; }};
}};
""")
    zone = Zone(name="shop.example.", servers=(f"127.0.0.1:{port}",), key="tsig")
    with process([NAMED, "-g", "-n", "1", "-c", str(folder / "named.conf")], folder):
        backend = made(zone, TSIG, records, timeout=5.0)
        until_it_answers(backend)
        yield backend


@contextmanager
def octodns(folder: Path) -> Iterator[Backend]:
    """octoDNS's own provider for RFC 2136, at the same BIND."""
    with bind(folder) as below:
        port = below.zone.servers[0].rpartition(":")[2]
        zone = Zone(
            name="shop.example.", provider="octodns", servers=below.zone.servers,
            provider_class="octodns_bind.Rfc2136Provider",
            options={
                "host": "127.0.0.1", "port": int(port), "timeout": 5, "key_name": "shop-key",
                "key_algorithm": "hmac-sha256",
            },
            keys={"key_secret": "tsig"},
        )
        backend = made(zone, SECRET, below.records, timeout=5.0)
        backend.text = '"semi; \\"quoted\\""'
        yield backend


@contextmanager
def real_powerdns(folder: Path) -> Iterator[Backend]:
    """PowerDNS itself on SQLite, as an ordinary process; its API and its DNS on loopback."""
    assert PDNS is not None
    assert PDNSUTIL is not None
    records, web, port = shop_records(folder), free_port(), free_port()
    (folder / "pdns.conf").write_text(f"""
launch=gsqlite3
gsqlite3-database={folder}/pdns.sqlite3
local-address=127.0.0.1
local-port={port}
socket-dir={folder}
api=yes
api-key={API_KEY}
webserver=yes
webserver-address=127.0.0.1
webserver-port={web}
webserver-allow-from=127.0.0.1
zone-cache-refresh-interval=0
cache-ttl=0
query-cache-ttl=0
""")
    schema = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
    import sqlite3

    with sqlite3.connect(folder / "pdns.sqlite3") as store:
        store.executescript(schema.read_text())
    store.close()
    load = [PDNSUTIL, f"--config-dir={folder}", "load-zone", "shop.example",
            str(folder / "shop.zone")]
    subprocess.run(load, check=True, capture_output=True)
    zone = Zone(
        name="shop.example.", provider="powerdns", endpoint=f"http://127.0.0.1:{web}", key="api",
        servers=(f"127.0.0.1:{port}",),
    )
    with process([PDNS, f"--config-dir={folder}", "--daemon=no", "--guardian=no"], folder):
        backend = made(zone, API_KEY, records, timeout=5.0)
        until_it_answers(backend)
        yield backend


@contextmanager
def process(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("w") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield
    finally:
        running.terminate()
        running.wait(10)


def until_it_answers(backend: Backend) -> None:
    end = time.monotonic() + 15
    while True:
        try:
            backend.dns.records(backend.zone)
            return
        except Errored:
            if time.monotonic() > end:
                raise
            threading.Event().wait(0.05)


def free_port() -> int:
    """Free for UDP and TCP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        return int(tcp.getsockname()[1])


BACKENDS: Mapping[str, Callable[[Path], object]] = {
    "rfc2136": rfc2136, "powerdns": powerdns, "route53": route53, "cloudflare": cloudflare,
    "bind": bind, "real-powerdns": real_powerdns, "octodns": octodns,
}
