"""A web site on two sides of the lab: HAProxy before nginx in the east, nginx in the west; and a
visitor who loads pages all the time."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from typing import Self

from tests.lab.lab import MACHINES, Lab
from tests.lab.network import inside
from tests.lab.processes import wait_for

OLD, NEW = "east-web", "west-web"
FLAG = "/run/shop/maintenance.on"
SOCKET = "/run/haproxy.sock"
STYLE = "body { color: teal }\n"
LARGE = 64 << 20
"""Bytes of /large: more than the buffers on the way can hold."""
FALLBACK = """\
<!DOCTYPE html>
<title>Moving</title>
<link rel="stylesheet" href="/fallback/style.css">
<img src="/fallback/van.svg" alt="a van"> <a href="/orders">orders</a>
<p>We are moving, back at two.
"""


def nginx(side: str, port: int, *, honours: bool = True) -> dict[str, str]:
    """Files of a host with nginx(8), which serves that side's page."""
    switch = f"if (-f {FLAG}) {{ return 503; }}" if honours else f"# if (-f {FLAG}) {{ }}"
    return {
        "/etc/nginx/nginx.conf": f"""\
user root;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx-error.log;
events {{ worker_connections 256; }}
http {{
  access_log /var/log/nginx-access.log;
  default_type text/html;
  types {{ text/css css; image/svg+xml svg; }}
  server {{
    listen {port} default_server;
    error_page 503 @maintenance;
    location / {{ {switch}
      root /srv/site; add_header X-Side {side} always; }}
    location @maintenance {{
      root /srv/pages; add_header Retry-After 600 always;
      rewrite ^ /fallback/index.html break; }}
    location /fallback/ {{ root /srv/pages; }}
  }}
}}
""",
        "/srv/site/index.html": f"<!DOCTYPE html><title>Shop</title>side {side}\n",
        "/srv/pages/fallback/index.html": FALLBACK,
        "/srv/pages/fallback/style.css": STYLE,
        "/srv/pages/fallback/van.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>\n",
        "/etc/runbook-lab/boot.d/nginx":
        f"mkdir -p /var/lib/nginx /run/shop\ntruncate -s {LARGE} /srv/site/large\n"
        "setsid nginx -g 'daemon off;' >>/var/log/nginx.log 2>&1 </dev/null &\n",
    }


def haproxy() -> dict[str, str]:
    """Files of a host with haproxy(1): its own nginx at :8080, and the west as a standby."""
    return {
        "/etc/haproxy-lab.cfg": f"""\
global
  stats socket {SOCKET} mode 600 level admin
defaults
  mode http
  timeout connect 20s
  timeout client 2m
  timeout server 2m
  option redispatch
frontend web
  bind :80
  default_backend app
backend app
  server east {MACHINES[OLD]}:8080
  server west {MACHINES[NEW]}:80 backup disabled
""",
        "/etc/runbook-lab/boot.d/haproxy":
        "setsid haproxy -db -f /etc/haproxy-lab.cfg >>/var/log/haproxy.log 2>&1 </dev/null &\n",
    }


def files() -> dict[str, dict[str, str]]:
    return {OLD: {**nginx("east", 8080), **haproxy()}, NEW: nginx("west", 80)}


def wait_for_site(lab: Lab) -> None:
    for address in (f"{MACHINES[OLD]}", f"{MACHINES[OLD]}:8080", MACHINES[NEW]):
        wait_for(f"the site answers at {address}", lambda at=address: lab.run(  # type: ignore[misc]
            "client", "curl", "-sf", "-o", "/dev/null", f"http://{at}/", check=False
        ).returncode == 0)


def balancer_state(lab: Lab) -> list[str]:
    """What HAProxy does with each of its servers: name, administrative state, weight."""
    lines = lab[OLD].run(f"echo 'show servers state app' | socat - {SOCKET}").stdout.splitlines()
    return [" ".join((f[3], f[6], f[7])) for f in map(str.split, lines) if len(f) > 7 and
            f[1] == "app"]


class Visitor:
    """Loads a page again and again, each time over a new connection, from where customers are."""

    def __init__(self, lab: Lab, address: str = MACHINES[OLD], path: str = "/") -> None:
        self._space = lab.network.namespace("client")
        self._address = address
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[tuple[float, str]] = []
        """When, and ``200 east``, ``503 fallback``, or why a page did not load."""

    def __enter__(self) -> Self:
        self._thread.start()
        self.loads(3)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def loads(self, count: int) -> None:
        """Wait until so many more pages were asked for."""
        enough = len(self.seen) + count
        wait_for("pages", lambda: len(self.seen) >= enough, 60)

    def counts(self) -> Counter[str]:
        return Counter(what for _, what in self.seen)

    def order(self) -> list[str]:
        """What was seen, one after the other, without repetitions."""
        found: list[str] = []
        for _, what in self.seen:
            if not found or found[-1] != what:
                found.append(what)
        return found

    def _run(self) -> None:
        with inside(self._space):
            while not self._stop.wait(0.005):
                began = time.time()
                self.seen.append((began, self._load()))

    def _load(self) -> str:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request("GET", self._path, headers={"Host": "shop.example"})
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as fault:
            return f"{type(fault).__name__}: {fault}"
        finally:
            connection.close()
        fallback = "back at two" in text and answer.headers["Retry-After"] == "600"
        side = "fallback" if fallback else answer.headers["X-Side"]
        return f"{answer.status} {side}"


class Download:
    """One that is open for as long as the test likes: it takes nothing until :meth:`finish`."""

    def __init__(self, lab: Lab) -> None:
        with inside(lab.network.namespace("client")):
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self._socket.settimeout(30)
            self._socket.connect((MACHINES[OLD], 80))
        self._socket.sendall(b"GET /large HTTP/1.0\r\nHost: shop.example\r\n\r\n")
        assert self._socket.recv(12) == b"HTTP/1.1 200"
        wait_for("the download is open", lambda: _open_sessions(lab) > 0)

    def finish(self) -> int:
        """Take the rest; how much that was, whether or not it was cut off."""
        taken = 0
        try:
            while data := self._socket.recv(1 << 20):
                taken += len(data)
        except ConnectionResetError:
            return taken
        finally:
            self._socket.close()
        return taken


def _open_sessions(lab: Lab) -> int:
    stat = lab[OLD].run(f"echo 'show stat' | socat - {SOCKET}").stdout
    rows = [line.split(",") for line in stat.splitlines()]
    return sum(int(row[4]) for row in rows if row[:2] == ["app", "east"])
