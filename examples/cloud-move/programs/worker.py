"""The forge's queue: every push is worked on once, and what came of it is written to the store.

    GET /health       {"pending", "done"}; 503 until it has looked for the first time

Pushes that are not done yet are found in the store itself, so a worker that starts anew, or at
another site, goes on where the one before it was.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from web import JsonHandler, ask, serve, settings

STORE = settings(Path(__file__).resolve().parent / "forge.conf")["STORE"]
LOOK = 0.1
WORK = 0.01


class Queue:
    """What there is to do, as the store has it."""

    def __init__(self) -> None:
        self.looked = False
        self._forget()

    def look(self) -> None:
        """Learn what is new. A store that was rewound is read anew from its beginning."""
        told = ask(f"{STORE}/stream?after={self.seen}")
        if told["number"] < self.seen:
            self._forget()
            return
        for write in told["writes"]:
            said = json.loads(write["body"])
            if "done" in said:
                self.pending.pop(said["done"], None)
                self.done += 1
            else:
                self.pending[write["id"]] = None
        self.seen = told["number"]
        self.looked = True

    def _forget(self) -> None:
        self.seen = 0
        self.done = 0
        self.pending: dict[str, None] = {}


queue = Queue()


def work(ended: threading.Event) -> None:
    while not ended.wait(LOOK):
        try:
            queue.look()
            for identity in list(queue.pending):
                if ended.wait(WORK):
                    return
                ask(f"{STORE}/writes", json.dumps({"done": identity}).encode())
        except OSError as fault:
            print(f"the store takes nothing: {fault}", flush=True)


class Handler(JsonHandler):
    def do_GET(self) -> None:
        self.send_json(200 if queue.looked else 503,
                       {"pending": len(queue.pending), "done": queue.done})


def main() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,))
    thread.start()
    serve(Handler, 8080)
    ended.set()
    thread.join()


if __name__ == "__main__":
    main()
