"""Name servers of the lab: BIND as primary, Knot as secondary, unbound as resolvers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

PRIMARY, SECONDARY = "192.0.2.53", "192.0.2.54"
KEY_NAME, KEY_SECRET = "shop-move", "bGFiLW9ubHktbm90LWEtc2VjcmV0LTAxMjM0NTY3ODk="
"""Made up for the lab."""
TSIG = f"{KEY_NAME}:hmac-sha256:{KEY_SECRET}"


@dataclass(frozen=True)
class Served:
    """One more zone of the primary. ``options`` are statements of BIND's ``zone``; a zone in
    ``view`` is shown to those who sign with :func:`view_key` of it, and to nobody else."""

    zone: str
    text: str
    options: str = ""
    view: str = ""


def view_key(view: str) -> str:
    """The TSIG key that opens a view and may change it: ``name:algorithm:base64``."""
    return f"{view}-key:hmac-sha256:{base64.b64encode(view.ljust(32).encode()).decode()}"


def primary(zone: str, text: str, more: Sequence[Served] = ()) -> dict[str, str]:
    """Files of the host that runs named(8) as primary of a zone, and of ``more``."""
    every = (Served(zone, text), *more)
    views = dict.fromkeys(one.view for one in more if one.view)
    keys = "".join(_key(TSIG if not view else view_key(view)) for view in ("", *views))
    blocks = [
        f'view "{view}" {{\n  match-clients {{ key {view}-key; }};\n{_zones(every, view)}}};\n'
        for view in views
    ]
    # Once there is one view, every zone has to be in one; it is the first that matches.
    everybody = _zones(every, "")
    blocks.append(
        f'view "everybody" {{\n  match-clients {{ any; }};\n{everybody}}};\n' if views
        else everybody
    )
    return {
        "/etc/bind/named.conf": f"""\
{keys}controls {{ }};
options {{
  directory "/var/cache/bind"; pid-file none; session-keyfile none;
  listen-on {{ any; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify explicit; notify-delay 0;
  serial-query-rate 1000; check-names primary ignore;
}};
{"".join(blocks)}""",
        **{_file(one): one.text for one in every},
        "/etc/runbook-lab/boot.d/named": "mkdir -p /var/cache/bind\n"
        "setsid named -g -n 1 -c /etc/bind/named.conf >>/var/log/named.log 2>&1 &\n",
    }


def _key(tsig: str) -> str:
    name, algorithm, secret = tsig.split(":")
    return f'key "{name}" {{ algorithm {algorithm}; secret "{secret}"; }};\n'


def _file(one: Served) -> str:
    return f"/var/lib/bind/{one.view}{one.zone}.zone"


def _zones(every: Sequence[Served], view: str) -> str:
    key, notified = (f"{view}-key", "") if view else (KEY_NAME, f"also-notify {{ {SECONDARY}; }};")
    return "".join(
        f"""\
zone "{one.zone}" {{
  type primary; file "{_file(one)}"; {notified}
  allow-update {{ key {key}; }};
  allow-transfer {{ key {key}; {SECONDARY}; }}; {one.options}
}};
"""
        for one in every if one.view == view
    )


def secondary(*zones: str) -> dict[str, str]:
    """Files of the host that runs knotd(8) as secondary of zones."""
    return {
        "/etc/knot/knot.conf": f"""\
server:
    rundir: /run/knot
    user: root:root
    listen: {SECONDARY}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: /var/lib/knot-lab
remote:
  - id: primary
    address: {PRIMARY}@53
acl:
  - id: notify
    address: {PRIMARY}
    action: notify
  - id: look
    address: 192.0.2.0/24
    action: transfer
zone:
""" + "".join(
            f"""\
  - domain: {zone}
    storage: /var/lib/knot-lab
    file: {zone}.zone
    master: primary
    acl: [notify, look]
    refresh-min-interval: 2
    retry-max-interval: 2
"""
            for zone in zones
        ),
        "/etc/runbook-lab/boot.d/knotd": "mkdir -p /run/knot /var/lib/knot-lab\n"
        "setsid knotd -c /etc/knot/knot.conf >>/var/log/knotd.log 2>&1 &\n",
    }


def resolver(address: str, *zones: str) -> dict[str, str]:
    """Files of a host that runs unbound(8), which knows these zones and nothing else."""
    local = "".join(f'  local-zone: "{zone}." transparent\n' for zone in zones)
    stubs = "".join(
        f"""\
stub-zone:
  name: "{zone}"
  stub-addr: {PRIMARY}
  stub-addr: {SECONDARY}
"""
        for zone in zones
    )
    return {
        "/etc/unbound/unbound.conf": f"""\
server:
  interface: {address}
  access-control: 0.0.0.0/0 allow
  chroot: ""
  username: ""
  directory: "/etc/unbound"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  module-config: "iterator"
  num-threads: 1
  infra-host-ttl: 1
  infra-keep-probing: yes
  infra-cache-max-rtt: 1000
  # There is no other world: what is not in the zone does not exist, and says so at once.
  local-zone: "." static
{local}{stubs}remote-control:
  control-enable: no
""",
        "/etc/runbook-lab/boot.d/unbound":
        "setsid unbound -d -c /etc/unbound/unbound.conf >>/var/log/unbound.log 2>&1 &\n",
    }
