"""A small replicated store: a journal of writes, a copy of it at another site, and a heartbeat.

    POST /writes            201 {"id", "number"} once the write is on the disk; 503 while read-only
    GET  /ids               the identities of all writes
    GET  /status            {"site", "read_only", "number", "beat", "follows", "heard", "fault"}
    GET  /stream?after=N    for a store that follows this one: the writes after N, and the beat
    POST /append            writes of another store that come after those here
    POST /rewind?to=N       forget the writes after N, of a store that is read-only

Two files in its folder steer it, and nothing has to be restarted:

    read-only   while it exists no write is taken; the heart goes on beating
    follow      the URL of the store it follows

The heart beats ten times a second, read-only or not. Who has heard a beat of another store has
every write that was acknowledged there before that beat. A reference that is read after the freeze
may be of a beat *before* the last write: only one that is later than the reference proves that
nothing is missing. That is why everybody here compares strictly.

Writes are numbered without a gap. Two stores that have taken different writes under one number have
gone different ways: the one that follows stops and says so, and hears nothing any more.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from web import JsonHandler, ask, serve, settings

FOLDER = Path(__file__).resolve().parent
BEAT = 0.1
PULL = 0.05
Write = dict[str, str]


class Conflict(Exception):
    """Two stores have gone different ways."""


class Store:
    """The journal of one site. What it holds in memory is on the disk already."""

    def __init__(self, site: str, path: Path, folder: Path = FOLDER) -> None:
        self.site = site
        self.writes: list[Write] = []
        self.beat = 0
        self.heard: dict[str, int] = {}
        self.fault = ""
        self._folder = folder
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            # A line without its end was never acknowledged.
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            self.writes = [json.loads(line) for line in whole.splitlines()]
        self._rewrite(self.writes)

    @property
    def read_only(self) -> bool:
        return (self._folder / "read-only").exists()

    @property
    def follows(self) -> str:
        path = self._folder / "follow"
        return path.read_text().strip() if path.exists() else ""

    def write(self, body: str) -> tuple[str, int] | None:
        """Identity and number of a write that is on the disk; None where none is taken. That is
        looked at under the lock, so nothing is acknowledged after the freeze was seen to hold."""
        with self._lock:
            if self.read_only:
                return None
            entry = {"id": uuid.uuid4().hex, "body": body}
            self._append([entry])
            return entry["id"], len(self.writes)

    def pulse(self) -> None:
        """One beat of the heart. It is later than those of the life before, too."""
        with self._lock:
            self.beat = max(self.beat + 1, int(time.time() / BEAT))

    def stream(self, after: int) -> dict[str, Any]:
        """What a store needs that has ``after`` writes of this one."""
        with self._lock:
            return {
                "site": self.site, "number": len(self.writes), "beat": self.beat,
                "base": self._id(min(after, len(self.writes))), "writes": self.writes[after:],
            }

    def take(self, answer: dict[str, Any]) -> None:
        """Take over what another store has streamed, and hear its beat. Raises Conflict."""
        self.append(answer["base"], int(answer["number"]), answer["writes"])
        with self._lock:
            self.heard[answer["site"]] = int(answer["beat"])

    def append(self, base: str, number: int, writes: list[Write]) -> None:
        """Writes up to ``number`` of another store; ``base`` is the one before them. Those that are
        here already are not taken again. Raises Conflict."""
        with self._lock:
            first = number - len(writes)
            known = [self._id(at) for at in range(first, min(number, len(self.writes)) + 1)]
            theirs = [base, *(one["id"] for one in writes)]
            if first > len(self.writes) or known != theirs[: len(known)]:
                raise Conflict(f"write {first} and what follows is not what the other store has")
            self._append(writes[len(self.writes) - first :])

    def rewind(self, to: int) -> int:
        """Forget all writes after a number; what is cut off is kept beside the journal. How many
        there were. Raises Conflict while writes are taken."""
        with self._lock:
            if not self.read_only:
                raise Conflict("it takes writes: make it read-only before it is rewound")
            cut = self.writes[to:]
            if cut:
                kept = self._path.with_name(f"cut-{time.time_ns()}.jsonl")
                kept.write_text("".join(json.dumps(one) + "\n" for one in cut))
                self._rewrite(self.writes[:to])
            return len(cut)

    def ids(self) -> list[str]:
        with self._lock:
            return [one["id"] for one in self.writes]

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {
                "site": self.site, "read_only": self.read_only, "number": len(self.writes),
                "beat": self.beat, "follows": self.follows, "heard": dict(self.heard),
                "fault": self.fault,
            }

    def _id(self, number: int) -> str:
        return self.writes[number - 1]["id"] if number else ""

    def _append(self, writes: list[Write]) -> None:
        if not writes:
            return
        with self._path.open("a") as file:
            file.write("".join(json.dumps(one) + "\n" for one in writes))
            file.flush()
            os.fsync(file.fileno())
        self.writes += writes

    def _rewrite(self, writes: list[Write]) -> None:
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            file.write("".join(json.dumps(one) + "\n" for one in writes))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self.writes = list(writes)


def follow(store: Store, ended: threading.Event, lag: float) -> None:
    """Pull from the store that is followed, and be ``lag`` seconds behind it."""
    while not ended.wait(PULL):
        upstream = store.follows
        if not upstream:
            store.fault = ""
            continue
        try:
            told = ask(f"{upstream}/stream?after={len(store.writes)}")
            ended.wait(lag)
            if store.follows == upstream:
                store.take(told)
                store.fault = ""
        except (OSError, ValueError, Conflict) as fault:
            store.fault = f"{type(fault).__name__}: {fault}"


def beat(store: Store, ended: threading.Event) -> None:
    while True:
        store.pulse()
        if ended.wait(BEAT):
            return


class Handler(JsonHandler):
    store: Store

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if place.path == "/status":
            self.send_json(200, self.store.status())
        elif place.path == "/ids":
            self.send_json(200, self.store.ids())
        elif place.path == "/stream":
            self.send_json(200, self.store.stream(int(parse_qs(place.query)["after"][0])))
        else:
            self.send_json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        place = urlsplit(self.path)
        body = self.body().decode()
        try:
            if place.path == "/writes":
                self.write(body)
            elif place.path == "/append":
                told = json.loads(body)
                self.store.append(told["base"], told["number"], told["writes"])
                self.send_json(200, {"number": self.store.status()["number"]})
            elif place.path == "/rewind":
                cut = self.store.rewind(int(parse_qs(place.query)["to"][0]))
                self.send_json(200, {"cut": cut})
            else:
                self.send_json(404, {"error": "no such page"})
        except Conflict as fault:
            self.send_json(409, {"error": str(fault)})

    def write(self, body: str) -> None:
        taken = self.store.write(body)
        if taken is None:
            self.send_json(503, {"error": "read-only"})
        else:
            self.send_json(201, {"id": taken[0], "number": taken[1]})


def main() -> None:
    site = settings(FOLDER / "store.conf")["SITE"]
    Handler.store = store = Store(site, FOLDER.parent / "data" / "writes.jsonl")
    ended = threading.Event()
    threads = [
        threading.Thread(target=beat, args=(store, ended)),
        threading.Thread(target=follow, args=(store, ended, float(os.environ.get("LAG", "0")))),
    ]
    for thread in threads:
        thread.start()
    serve(Handler, 7000)
    ended.set()


if __name__ == "__main__":
    main()
