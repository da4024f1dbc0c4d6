"""A small wiki: pages that can be read at both sites, and edits that one of them takes.

    GET  /            the page; a banner says when editing is closed
    GET  /health      {"site", "primary", "read_only", "in_flight"}
    GET  /edit-check  200 where an edit would be taken now, else 503
    POST /edits       201 {"id"} once the edit is in the store; 503 with Retry-After where none is
                      taken: the wiki is read-only, or the other site is the primary one
    GET  /edits/ids   the identities of all edits, as the store of this site has them

Two files in its folder steer it, and nothing has to be restarted: ``read-only`` closes it for
edits, and ``primary`` names the site that takes them.
"""

from __future__ import annotations

from pathlib import Path

from web import InFlight, JsonHandler, ask, serve, settings

FOLDER = Path(__file__).resolve().parent


_settings = settings(FOLDER / "wiki.conf")
SITE, STORE = _settings["SITE"], _settings["STORE"]


def primary() -> str:
    return (FOLDER / "primary").read_text().strip()


def read_only() -> bool:
    return (FOLDER / "read-only").exists()


in_flight = InFlight()


def edit(body: bytes) -> str | None:
    """Identity of an edit that the store has on its disk; None where none is taken. Counted before
    the flags are looked at: once a flag is up and the count is 0, no edit is under way."""
    with in_flight:
        if read_only() or primary() != SITE:
            return None
        try:
            return str(ask(f"{STORE}/writes", body)["id"])
        except OSError:
            return None


def may_edit() -> bool:
    if read_only() or primary() != SITE:
        return False
    try:
        return not ask(f"{STORE}/status")["read_only"]
    except OSError:
        return False


class Handler(JsonHandler):
    def do_GET(self) -> None:
        if self.path == "/":
            banner = "<p>Editing is closed for a few minutes.</p>" if read_only() else ""
            page = f"<!doctype html><title>Wiki</title><h1>Wiki</h1>{banner}<p>From the {SITE}.</p>"
            self.send(200, page.encode(), "text/html; charset=utf-8")
        elif self.path == "/health":
            self.send_json(200, {"site": SITE, "primary": primary(), "read_only": read_only(),
                                 "in_flight": in_flight.count})
        elif self.path == "/edit-check":
            self.send_json(200 if may_edit() else 503, {"site": SITE})
        elif self.path == "/edits/ids":
            self.send_json(200, ask(f"{STORE}/ids"))
        else:
            self.send_json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        body = self.body()
        if self.path != "/edits":
            self.send_json(404, {"error": "no such page"})
            return
        identity = edit(body)
        if identity is None:
            self.send_json(503, {"error": "editing is closed"}, {"Retry-After": "60"})
        else:
            self.send_json(201, {"id": identity, "site": SITE})


if __name__ == "__main__":
    serve(Handler, 80)
