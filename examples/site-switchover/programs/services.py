"""Services without a state of their own: ``search`` and ``thumbs``, told apart by the host's name.

    GET anything      200 {"service", "site"}
"""

from __future__ import annotations

import sys

from web import JsonHandler, serve

SITE = sys.argv[1]
KNOWN = ("search", "thumbs")


class Handler(JsonHandler):
    def do_GET(self) -> None:
        service = (self.headers.get("Host") or "").partition(".")[0]
        if service in KNOWN:
            self.send_json(200, {"service": service, "site": SITE})
        else:
            self.send_json(404, {"error": f"no service {service!r} here"})


if __name__ == "__main__":
    serve(Handler, 80)
