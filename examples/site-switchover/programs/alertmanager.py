"""Stands in for Prometheus Alertmanager, as far as silences go.

    GET    /api/v2/silences     those that are in force
    POST   /api/v2/silences     200 {"silenceID"}
    DELETE /api/v2/silence/ID   ends one

It knows no time: a silence is in force until it is ended. Each is a file in ``silences/``.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from web import JsonHandler, serve

FOLDER = Path("silences")


class Handler(JsonHandler):
    def do_GET(self) -> None:
        found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
        self.send_json(200, [{**one, "status": {"state": "active"}} for one in found])

    def do_POST(self) -> None:
        silence = json.loads(self.body())
        silence.setdefault("id", uuid.uuid4().hex)
        path = FOLDER / f"{silence['id']}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(silence))
        new.replace(path)
        self.send_json(200, {"silenceID": silence["id"]})

    def do_DELETE(self) -> None:
        path = FOLDER / f"{self.path.rpartition('/')[2]}.json"
        known = path.exists()
        path.unlink(missing_ok=True)
        self.send_json(200 if known else 404, {})


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    serve(Handler, 9093)
