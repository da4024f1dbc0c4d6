"""The lab's network: a router namespace with a bridge a site, and what can go wrong in it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.needs import find
from tests.lab.processes import ENVIRONMENT, kill, run

SITES = {"east": "198.51.100", "west": "203.0.113", "control": "192.0.2"}
"""Sites and the first three octets of their networks, all reserved for documentation (RFC 5737):
outside the lab they lead nowhere."""

_RULES = """\
table inet lab {
  chain lost { type filter hook forward priority 0; policy accept; }
}
"""


_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(space: str) -> Iterator[None]:
    """This thread, and the threads and processes it starts, in a network namespace (setns(2))."""
    back, there = (
        os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/run/netns/{space}")
    )
    try:
        enter(there)
        yield
    finally:
        enter(back)
        os.close(there)
        os.close(back)


def enter(handle: int) -> None:
    if _LIBC.setns(handle, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def site_of(address: str) -> str:
    return next(s for s, prefix in SITES.items() if address.startswith(prefix + "."))


class Network:
    """Namespaces are called after the lab, so that what a dead lab left behind can be found."""

    def __init__(self, lab_id: str) -> None:
        self._lab = lab_id
        self.router = f"{lab_id}-router"
        self._relays: dict[str, subprocess.Popen[str]] = {}

    def namespace(self, host: str) -> str:
        return f"{self._lab}-{host}"

    def open(self) -> None:
        run("ip", "netns", "add", self.router)
        lines = ["link set lo up"]
        for number, (site, prefix) in enumerate(SITES.items()):
            lines += [
                f"link add {_bridge(site)} type bridge forward_delay 0",
                f"addr add {prefix}.1/24 dev {_bridge(site)}",
                f"link set {_bridge(site)} up",
                # Where a relayed packet goes on; see delay().
                f"rule add iif relay-{site} lookup main prio {100 + number}",
            ]
        self._batch(self.router, *lines)
        self._in_router("sh", "-c", "for s in ip_forward conf/all/rp_filter:0 "
                        "conf/default/rp_filter:0; do v=${s#*:}; [ $v = $s ] && v=1; "
                        "echo $v >/proc/sys/net/ipv4/${s%:*}; done")
        self._nft(_RULES)

    def attach(self, host: str, address: str) -> None:
        """A fresh namespace for a host, with one interface at its site."""
        space, site = self.namespace(host), site_of(address)
        run("ip", "netns", "add", space)
        run("ip", "-n", self.router, "link", "add", _port(host), "type", "veth",
            "peer", "name", "eth0", "address", _mac(address), "netns", space)
        self._batch(self.router, f"link set {_port(host)} master {_bridge(site)} up")
        self._batch(
            space, "link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up",
            f"route add default via {SITES[site]}.1",
        )

    def detach(self, host: str) -> None:
        """The namespace goes, and every socket in it without a word to the other side."""
        # The port too: the kernel takes its time with what is in a namespace.
        run("ip", "-n", self.router, "link", "del", _port(host))
        run("ip", "netns", "del", self.namespace(host))

    # -- faults --------------------------------------------------------------------------------

    def link(self, host: str, *, up: bool) -> None:
        """The cable of a host, plugged or pulled. Its sockets do not notice."""
        run("ip", "-n", self.router, "link", "set", _port(host), "up" if up else "down")

    def drop(self, source: str, target: str, percent: int = 100) -> None:
        """Lose packets from one site to another, one way."""
        chance = "" if percent >= 100 else f"numgen random mod 100 < {percent} "
        self._nft(
            f'add rule inet lab lost iifname != "relay-*" ip saddr {_net(source)} '
            f"ip daddr {_net(target)} {chance}drop"
        )

    def heal(self) -> None:
        """No packet is lost any more."""
        self._nft("flush chain inet lab lost")

    def slow(self, host: str, kbit: int | None) -> None:
        """Limit what a host receives and sends to so many kbit/s; None lifts it."""
        for space, device in ((self.router, _port(host)), (self.namespace(host), "eth0")):
            subprocess.run(
                ["tc", "-n", space, "qdisc", "del", "dev", device, "root"],
                env=ENVIRONMENT, capture_output=True, check=False,
            )
            if kbit is not None:
                run("tc", "-n", space, "qdisc", "add", "dev", device, "root", "tbf",
                    "rate", f"{kbit}kbit", "burst", "8k", "latency", "500ms")

    def delay(self, site: str, seconds: float) -> None:
        """Everything between a site and the others takes so much longer, each way; 0 lifts it."""
        device = f"relay-{site}"
        old = self._relays.pop(site, None)
        if old is not None:
            self._end(old)
            table = _table(site)
            self._batch(
                self.router, f"rule del prio {200 + table}", f"rule del prio {300 + table}"
            )
        if not seconds:
            return
        relay = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.router}", _python(),
             str(Path(__file__).with_name("relay.py")), device, str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT,
        )
        self._relays[site] = relay
        assert relay.stdout is not None
        assert relay.stdout.readline() == "ready\n"
        table = _table(site)
        # Leaving the site by where it comes from; entering it by where it goes to. A packet that
        # comes out of the relay is routed by the rule of open(), once and for all.
        self._batch(
            self.router, f"link set {device} up",
            f"route add default dev {device} table {table}",
            f"rule add iif {_bridge(site)} lookup {table} prio {200 + table}",
            f"rule add to {_net(site)} lookup {table} prio {300 + table}",
        )

    def close(self) -> None:
        for relay in self._relays.values():
            self._end(relay)
        self._relays.clear()

    # -- inside --------------------------------------------------------------------------------

    def _end(self, relay: subprocess.Popen[str]) -> None:
        kill([relay.pid])
        relay.wait()
        assert relay.stdout is not None
        relay.stdout.close()

    def _batch(self, space: str, *lines: str) -> None:
        run("ip", "-n", space, "-batch", "-", input="\n".join(lines) + "\n")

    def _nft(self, text: str) -> None:
        self._in_router("nft", "-f", "-", input=text)

    def _in_router(self, *command: str, input: str | None = None) -> None:
        run("nsenter", f"--net=/run/netns/{self.router}", *command, input=input)


def _table(site: str) -> int:
    return 10 + list(SITES).index(site)


def _net(site: str) -> str:
    return f"{SITES[site]}.0/24"


def _bridge(site: str) -> str:
    return f"br-{site}"


def _mac(address: str) -> str:
    """The same at every boot, as of a real card, or neighbours would look for the old one."""
    return ":".join(["02", "00", *(f"{int(part):02x}" for part in address.split("."))])


def _port(host: str) -> str:
    """At most 15 characters: a kernel's limit for names of interfaces."""
    return f"p-{host}"[:15]


def _python() -> str:
    return find("python3") or sys.executable
