"""Customers from outside, and what they saw.

    customers.py SITE RECORDS SECONDS

Four of them place orders and two look at the shop, about 150 requests a second together. Every
request resolves the name anew, opens a new connection and has a patience of 12 s. RECORDS gets a
line for each as it ends: kind, start, end, status (0: no answer), and the order's identity once
it was acknowledged. They leave after SECONDS, or when they are told to (SIGTERM).
"""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

WRITERS, READERS, RATE = 4, 2, 25.0
"""``RATE``: requests a second of each."""
PATIENCE = 12.0


@dataclass(frozen=True)
class Request:
    kind: str
    start: float
    end: float
    status: int
    order: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def ask(host: str, kind: str) -> tuple[int, str]:
    """Status and, of an order that was acknowledged, its identity."""
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    try:
        if kind == "write":
            connection.request("POST", "/orders", '{"article": "book"}', {"Connection": "close"})
        else:
            connection.request("GET", "/health", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        if kind == "write" and answer.status == 201:
            return 201, str(json.loads(body)["id"])
        return answer.status, ""
    except (OSError, http.client.HTTPException, ValueError):
        return 0, ""
    finally:
        connection.close()


def main(host: str, records: str, seconds: float) -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    writing = threading.Lock()
    began = time.monotonic()
    with Path(records).open("a", buffering=1) as file:

        def customer(kind: str, number: int) -> None:
            due = began + number / RATE / (WRITERS + READERS)
            while not over.wait(max(0.0, due - time.monotonic())):
                start = time.time()
                status, order = ask(host, kind)
                with writing:
                    file.write(f"{kind} {start:.4f} {time.time():.4f} {status} {order}\n")
                # Whoever was kept waiting does not hurry afterwards.
                due = max(due + 1 / RATE, time.monotonic())

        kinds = ["write"] * WRITERS + ["read"] * READERS
        threads = [threading.Thread(target=customer, args=(kind, number))
                   for number, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        over.wait(seconds)
        over.set()
        for thread in threads:
            thread.join()


def read(records: Path) -> list[Request]:
    """What they saw, in the order in which it ended."""
    found = []
    for line in records.read_text().splitlines() if records.exists() else ():
        kind, start, end, status, *order = line.split(" ")
        found.append(Request(kind, float(start), float(end), int(status), "".join(order)))
    return sorted(found, key=lambda one: one.end)


def outage(requests: list[Request], kind: str, end: float | None = None) -> float:
    """The longest time in which nobody's request came through, up to ``end``."""
    moments = [one.end for one in requests if one.kind == kind and one.ok]
    if end is not None:
        moments.append(max([end, *moments]))
    return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
