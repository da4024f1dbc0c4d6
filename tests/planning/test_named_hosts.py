"""Hosts that the keys of a step name, beside the one it is on: they have to be in the inventory."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.model.runbook import ValuePath
from runbook.planning import build_plan
from tests.planning.builders import Book

SYNC = {"source": "/srv/shop/", "destination": "/srv/shop"}
NGINX = {"flag": "/srv/maintenance.on", "url": "http://shop.example/"}


def problems(book: Book) -> list[tuple[str, ValuePath, str]]:
    try:
        build_plan(book.runbook(), kinds=registry())
    except InvalidInput as fault:
        asked = book.source.asked
        return [(one.message, asked[one.position.line] if one.position else (), one.hint)
                for one in fault.diagnostics]
    return []


@pytest.mark.parametrize(("kind", "args", "place"), [
    ("http.check", {"url": "http://shop.example/", "via": "bd1"}, ("via",)),
    ("http.check", {"url": "http://shop.example/", "from": ["db1", "bd1"]}, ("from", 1)),
    ("tcp.check", {"host": "192.0.2.1", "port": 80, "via": "bd1"}, ("via",)),
    ("files.sync", {**SYNC, "to": "bd1"}, ("to",)),
    ("files.compare", {**SYNC, "from": "bd1"}, ("from",)),
    ("nginx.maintenance", {**NGINX, "via": "bd1"}, ("via",)),
    ("capacity.check", {"disk": {"/": "1G"}, "like": "bd1"}, ("like",)),
    ("alerts.silence", {"url": "http://alerts.example/", "matchers": ["site=east"], "via": "bd1",
                        "for": "1h"}, ("via",)),
])
def test_one_that_is_not_there_is_found_before_anything_runs(
    kind: str, args: dict[str, Any], place: ValuePath
) -> None:
    scope = registry()[kind].scope
    where = {} if scope == "controller" else {"hosts": "web1"}
    found = problems(Book().step("a", kind, args=args, **where))
    assert (
        "there is no host 'bd1' in the inventory", ("steps", 0, "with", *place),
        "did you mean `db1`?",
    ) in found


def test_a_check_names_hosts_too() -> None:
    item = {"http": "http://shop.example/", "via": "bd1"}
    book = Book().step("a", "shell", args={"command": "true"}, hosts="web1", undo=False,
                       verify=(item, {"command": "true", "host": "wbe1"}))
    assert [one[1:] for one in problems(book)] == [
        (("steps", 0, "verify", 0, "via"), "did you mean `db1`?"),
        (("steps", 0, "verify", 1, "host"), "did you mean `web1`?"),
    ]


def test_what_is_known_only_late_is_looked_at_late() -> None:
    book = Book().step("a", "shell", args={"command": "true"}, undo=False, outputs={
        "where": {"take": "regex", "pattern": "(.*)"},
    })
    book.step("b", "tcp.check",
              args={"host": "db1", "port": 80, "via": "{{ outputs.a.where }}"})
    assert problems(book) == []
