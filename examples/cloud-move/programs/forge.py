"""A small code forge: pages, and pushes that are kept in the store and worked on by a queue.

    GET  /            the page, or the notice while the network is blocked
    GET  /health      {"site", "blocked", "in_flight"}
    GET  /push-check  200 where a push would be taken now, else 503
    POST /pushes      201 {"id"} once the push is in the store; 503 with Retry-After where none is
    GET  /pushes/ids  the identities of all pushes, as the store of this site has them

While the file ``blocked`` exists in its folder the network is blocked: visitors see a notice. The
team comes through with the header ``X-Team: token``; the token is in ``forge.conf``.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path

from web import InFlight, JsonHandler, ask, serve, settings

FOLDER = Path(__file__).resolve().parent
CONF = settings(FOLDER / "forge.conf")
SITE, STORE = CONF["SITE"], CONF["STORE"]
NOTICE = "<p>We are moving to another cloud. Nothing is lost; please come back in two hours.</p>"


def blocked() -> bool:
    return (FOLDER / "blocked").exists()


in_flight = InFlight()


def push(body: bytes, *, team: bool) -> str | None:
    """Identity of a push that the store has on its disk; None where none is taken. Counted before
    the block is looked at: once it is up and the count is 0, no visitor's push is under way."""
    with in_flight:
        if blocked() and not team:
            return None
        try:
            text = json.dumps({"push": body.decode("utf-8", "replace")})
            return str(ask(f"{STORE}/writes", text.encode())["id"])
        except OSError:
            return None


class Handler(JsonHandler):
    def do_GET(self) -> None:
        closed = blocked() and not self.of_the_team()
        if self.path == "/":
            text = NOTICE if closed else f"<p>From {SITE}.</p>"
            page = f"<!doctype html><title>Forge</title><h1>Forge</h1>{text}"
            self.send(200, page.encode(), "text/html; charset=utf-8")
        elif self.path == "/health":
            self.send_json(200, {"site": SITE, "blocked": blocked(), "in_flight": in_flight.count})
        elif self.path == "/push-check":
            open_ = not closed and not ask(f"{STORE}/status")["read_only"]
            self.send_json(200 if open_ else 503, {"site": SITE})
        elif self.path == "/pushes/ids":
            self.send_json(200, ask(f"{STORE}/ids"))
        else:
            self.send_json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        body = self.body()
        if self.path != "/pushes":
            self.send_json(404, {"error": "no such page"})
            return
        identity = push(body, team=self.of_the_team())
        if identity is None:
            self.send_json(503, {"error": "we are moving"}, {"Retry-After": "600"})
        else:
            self.send_json(201, {"id": identity, "site": SITE})

    def of_the_team(self) -> bool:
        return hmac.compare_digest(self.headers.get("X-Team") or "", CONF["TEAM"])


if __name__ == "__main__":
    serve(Handler, 80)
