"""PowerDNS's API as its manual describes it, as far as record sets go.

Enforced: the key; a PATCH is one transaction; names in the zone and with a final dot; records in
its own spelling only (no quotes in HTTPS and SVCB); a CNAME beside nothing else; no set twice.
REPLACE leaves comments alone unless it brings some; DELETE takes everything. A wrong key is
repeated in the answer, since nothing says that a server would not.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from runbook.model.dns import RRset
from tests.transports.api_double import Double, as_json

API_KEY = "powerdns-key-0123456789"
ORIGIN = "shop.example."


class PowerDnsDouble(Double):
    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[tuple[str, str], dict[str, Any]] = {
            (ORIGIN, "SOA"): _entry(
                ORIGIN, "SOA", 3600, ["ns1.shop.example. hostmaster.shop.example. 1 2 3 4 5"]
            )
        }

    def put(self, rrset: RRset) -> None:
        spelled = [_spelled(rrset.rtype, text) for text in rrset.rdatas]
        self.sets[rrset.key] = _entry(rrset.name, rrset.rtype, rrset.ttl, spelled)

    def answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, str, bytes]:
        if headers.get("X-API-Key") != API_KEY:
            return 401, "text/plain", f"Unauthorized: {headers.get('X-API-Key')}".encode()
        if path != f"/api/v1/servers/localhost/zones/{ORIGIN}":
            return as_json(404, {"error": "Not Found"})
        if method == "GET":
            return as_json(200, {"name": ORIGIN, "rrsets": list(self.sets.values())})
        after = copy.deepcopy(self.sets)
        seen: set[tuple[str, str]] = set()
        for one in json.loads(body)["rrsets"]:
            fault = _one(after, one, seen)
            if fault:
                return as_json(422, {"error": fault})
        self.sets = after
        return 204, "text/plain", b""


def _one(
    sets: dict[tuple[str, str], dict[str, Any]], one: dict[str, Any], seen: set[tuple[str, str]]
) -> str:
    name, rtype = one["name"], one["type"]
    if not name.endswith(f".{ORIGIN}") and name != ORIGIN:
        return f"RRset {name} IN {rtype}: Name is out of zone"
    if (name, rtype) in seen:
        return f"Duplicate RRset {name} IN {rtype} with changetype: {one['changetype']}"
    seen.add((name, rtype))
    if one["changetype"] == "DELETE":
        sets.pop((name, rtype), None)
        return ""
    assert one["changetype"] == "REPLACE"
    for record in one["records"]:
        spelled = _spelled(rtype, record["content"])
        if spelled != record["content"]:
            return (
                f"Record {name}/{rtype} '{record['content']}': Not in expected format "
                f"(parsed as '{spelled}')"
            )
    others = {kind for owner, kind in sets if owner == name and kind != rtype}
    if others and (rtype == "CNAME" or "CNAME" in others):
        return f"RRset {name} IN {rtype}: Conflicts with pre-existing RRset"
    kept = sets.get((name, rtype), {}).get("comments", [])
    contents = [(record["content"], record["disabled"]) for record in one["records"]]
    sets[(name, rtype)] = {
        "name": name, "type": rtype, "ttl": one["ttl"], "comments": one.get("comments", kept),
        "records": [{"content": text, "disabled": off} for text, off in contents],
    }
    return ""


def _entry(name: str, rtype: str, ttl: int, contents: list[str]) -> dict[str, Any]:
    records = [{"content": text, "disabled": False} for text in contents]
    return {"name": name, "type": rtype, "ttl": ttl, "comments": [], "records": records}


def _spelled(rtype: str, text: str) -> str:
    return text.replace('"', "") if rtype in {"HTTPS", "SVCB"} else text
