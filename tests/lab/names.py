"""Name servers of the lab: BIND as primary, Knot as secondary, unbound as resolvers."""

from __future__ import annotations

PRIMARY, SECONDARY = "192.0.2.53", "192.0.2.54"
KEY_NAME, KEY_SECRET = "shop-move", "bGFiLW9ubHktbm90LWEtc2VjcmV0LTAxMjM0NTY3ODk="
"""Made up for the lab."""
TSIG = f"{KEY_NAME}:hmac-sha256:{KEY_SECRET}"


def primary(zone: str, text: str) -> dict[str, str]:
    """Files of the host that runs named(8) as primary of a zone."""
    return {
        "/etc/bind/named.conf": f"""\
key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{KEY_SECRET}"; }};
controls {{ }};
options {{
  directory "/var/cache/bind"; pid-file none; session-keyfile none;
  listen-on {{ any; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify explicit; notify-delay 0; serial-query-rate 1000;
}};
zone "{zone}" {{
  type primary; file "/var/lib/bind/{zone}.zone"; also-notify {{ {SECONDARY}; }};
  allow-update {{ key {KEY_NAME}; }};
  allow-transfer {{ key {KEY_NAME}; {SECONDARY}; }};
}};
""",
        f"/var/lib/bind/{zone}.zone": text,
        "/etc/runbook-lab/boot.d/named": "mkdir -p /var/cache/bind\n"
        "setsid named -g -n 1 -c /etc/bind/named.conf >>/var/log/named.log 2>&1 &\n",
    }


def secondary(zone: str) -> dict[str, str]:
    """Files of the host that runs knotd(8) as secondary of a zone."""
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
zone:
  - domain: {zone}
    storage: /var/lib/knot-lab
    file: {zone}.zone
    master: primary
    acl: notify
    refresh-min-interval: 2
    retry-max-interval: 2
""",
        "/etc/runbook-lab/boot.d/knotd": "mkdir -p /run/knot /var/lib/knot-lab\n"
        "setsid knotd -c /etc/knot/knot.conf >>/var/log/knotd.log 2>&1 &\n",
    }


def resolver(address: str, zone: str) -> dict[str, str]:
    """Files of a host that runs unbound(8), which knows one zone and nothing else."""
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
  # There is no other world: what is not in the zone does not exist, and says so at once.
  local-zone: "." static
  local-zone: "{zone}." transparent
stub-zone:
  name: "{zone}"
  stub-addr: {PRIMARY}
  stub-addr: {SECONDARY}
remote-control:
  control-enable: no
""",
        "/etc/runbook-lab/boot.d/unbound":
        "setsid unbound -d -c /etc/unbound/unbound.conf >>/var/log/unbound.log 2>&1 &\n",
    }
