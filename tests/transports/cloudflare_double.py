"""Cloudflare's DNS records API as its reference describes it.

Enforced: the token; a batch is one transaction in the order deletes, patches, puts, posts, and
the first error undoes all; no two alike records; a CNAME beside nothing else; names without a
final dot; TTLs from 60 to 86400 or 1 (``silent``: made one of those without a word); structured
types by ``data``; a page size. The zone's own NS and SOA are not among the records.
"""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

from runbook.model.dns import RRset
from tests.transports.api_double import Double, as_json

TOKEN = "cloudflare-token-0123456789"
ZONE_ID = "023e105f4ecef8ad9ca31a8372d0c353"
_STRUCTURED = {"SRV", "CAA", "HTTPS", "SVCB", "TLSA", "SSHFP"}


class CloudflareDouble(Double):
    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}
        self.silent = False
        self.largest_page = 7
        """Small, so that every listing has several pages."""
        self._idents = (f"{number:032x}" for number in itertools.count(1))

    def put(self, rrset: RRset) -> None:
        """Records that are there already are edited and keep their identity."""
        there = self.idents(*rrset.key)
        for ident in there[len(rrset.rdatas) :]:
            del self.records[ident]
        there += [next(self._idents) for _ in rrset.rdatas]
        for ident, text in zip(there, rrset.rdatas, strict=False):
            self.records[ident] = {
                "id": ident, "name": rrset.name[:-1], "type": rrset.rtype, "ttl": rrset.ttl,
                "proxied": False, "comment": None, **_fields(rrset.rtype, text),
            }

    def idents(self, name: str, rtype: str) -> list[str]:
        return [
            ident for ident, one in self.records.items()
            if (one["name"], one["type"]) == (name[:-1], rtype)
        ]

    def answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, str, bytes]:
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return _fault(403, 9109, "Invalid access token")
        if method == "GET" and path == "/zones":
            known = query.get("name") == "shop.example"
            return _found([{"id": ZONE_ID, "name": "shop.example"}] if known else [], 1, 20)
        if method == "GET" and path == f"/zones/{ZONE_ID}/dns_records":
            size = min(int(query["per_page"]), self.largest_page)
            return _found(list(self.records.values()), int(query["page"]), size)
        if method == "POST" and path == f"/zones/{ZONE_ID}/dns_records/batch":
            return self._batch(json.loads(body))
        return _fault(404, 7003, "Could not route to this path")

    def _batch(self, body: dict[str, list[dict[str, Any]]]) -> tuple[int, str, bytes]:
        before = copy.deepcopy(self.records)
        for operation in ("deletes", "patches", "puts", "posts"):
            for one in body.get(operation, []):
                fault = self._one(operation, dict(one))
                if fault:
                    self.records = before
                    return _fault(400, *fault)
        return as_json(200, {"success": True, "errors": [], "messages": [], "result": {}})

    def _one(self, operation: str, one: dict[str, Any]) -> tuple[int, str] | None:
        ident = one.pop("id", None)
        if operation != "posts" and ident not in self.records:
            return 81044, "Record does not exist."
        if operation == "deletes":
            del self.records[ident]
            return None
        if operation == "posts":
            ident = next(self._idents)
            old = {"id": ident, "proxied": False, "comment": None, "ttl": 1}
        else:
            old = self.records[ident]
        made = {**old, **one}
        assert not made["name"].endswith(".")
        if made["type"] in _STRUCTURED and "data" not in made:
            return 9101, "data is a required field."
        if made["type"] in _STRUCTURED:
            made["content"] = " ".join(str(value) for value in made["data"].values())
        if made["ttl"] != 1 and not 60 <= made["ttl"] <= 86400:
            if not self.silent:
                return 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1."
            made["ttl"] = min(max(made["ttl"], 60), 86400)
        others = [r for i, r in self.records.items() if i != ident and r["name"] == made["name"]]
        if any("CNAME" in {r["type"], made["type"]} for r in others):
            return 81053, "An A, AAAA, or CNAME record with that host already exists."
        if any((r["type"], r["content"], r.get("priority")) ==
               (made["type"], made["content"], made.get("priority")) for r in others):
            return 81058, "An identical record already exists."
        self.records[ident] = made
        return None


def _fields(rtype: str, text: str) -> dict[str, Any]:
    """Written anew here, so that the program's own conversion is checked against another."""
    if rtype == "MX":
        priority, target = text.split()
        return {"priority": int(priority), "content": target[:-1]}
    if rtype == "SRV":
        priority, weight, port, target = text.split()
        data: dict[str, Any] = {
            "priority": int(priority), "weight": int(weight), "port": int(port),
            "target": target[:-1],
        }
        return {"data": data, "content": f"{weight} {port} {target[:-1]}"}
    if rtype == "HTTPS":
        priority, target, value = text.split(" ", 2)
        return {"data": {"priority": int(priority), "target": target, "value": value},
                "content": text}
    return {"content": text if rtype == "TXT" else text.removesuffix(".")}


def _found(rows: list[dict[str, Any]], page: int, size: int) -> tuple[int, str, bytes]:
    info = {"page": page, "per_page": size, "total_pages": -(-len(rows) // size)}
    return as_json(200, {
        "success": True, "errors": [], "result": rows[(page - 1) * size : page * size],
        "result_info": info,
    })


def _fault(status: int, code: int, message: str) -> tuple[int, str, bytes]:
    return as_json(
        status, {"success": False, "errors": [{"code": code, "message": message}], "result": None}
    )
