"""Between Cloudflare's record objects and record data in presentation format. No network.

Source: Cloudflare's API reference, "DNS Records". Its records stand one by one; names have no
final dot; types with several fields are written as ``data`` (MX: ``priority`` and ``content``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dns.rdatatype

from runbook.transports.dns.records import canonical_text, parse_type

AUTOMATIC, SERVED = 1, 300
"""A TTL of 1 means automatic, which is served as 300."""

_PLAIN = {"A", "AAAA", "CNAME", "NS", "PTR", "TXT"}
_FIELDS = {
    "CAA": ("flags", "tag", "value"),
    "DS": ("key_tag", "algorithm", "digest_type", "digest"),
    "HTTPS": ("priority", "target", "value"),
    "NAPTR": ("order", "preference", "flags", "service", "regex", "replacement"),
    "SRV": ("priority", "weight", "port", "target"),
    "SSHFP": ("algorithm", "type", "fingerprint"),
    "SVCB": ("priority", "target", "value"),
    "TLSA": ("usage", "selector", "matching_type", "certificate"),
    "URI": ("priority", "weight", "target"),
}
"""Fields of ``data`` in the order of the presentation format; the last takes all of the rest."""

_QUOTED = {"CAA": {"value"}, "NAPTR": {"flags", "service", "regex"}, "URI": {"target"}}
_WRITTEN = {"CAA", "HTTPS", "SRV", "SSHFP", "SVCB", "TLSA"}
_HEX = {"fingerprint", "certificate"}
_NUMBERS = {
    "flags", "priority", "weight", "port", "algorithm", "type", "usage", "selector",
    "matching_type",
}


def rdata_of(record: Mapping[str, Any]) -> str:
    """The canonical record data of one record object. Raises KeyError or ValueError."""
    rtype = str(record["type"])
    if rtype == "TXT":
        return canonical_text(rtype, _quoted(str(record["content"])))
    if rtype == "MX":
        return canonical_text(rtype, f"{record['priority']} {record['content']}")
    data = record.get("data")
    if rtype not in _FIELDS or not data:
        return canonical_text(rtype, str(record["content"]))
    given = {**data, "priority": record["priority"]} if rtype == "URI" else data
    quoted = _QUOTED.get(rtype, set())
    words = [
        f'"{str(given[name]).strip(chr(34))}"' if name in quoted else str(given[name])
        for name in _FIELDS[rtype]
    ]
    return canonical_text(rtype, " ".join(words))


def fields_of(rtype: str, rdata: str) -> dict[str, Any]:
    """The fields that write one record of canonical data. Raises ValueError for a type that is
    not written by this program."""
    rtype = dns.rdatatype.to_text(parse_type(rtype))
    if rtype == "TXT":
        return {"content": rdata}
    if rtype in _PLAIN:
        return {"content": _bare(rdata)}
    if rtype == "MX":
        priority, target = rdata.split(" ", 1)
        return {"priority": int(priority), "content": _bare(target)}
    if rtype not in _WRITTEN:
        raise ValueError(f"records of type {rtype} are not written to Cloudflare")
    names = _FIELDS[rtype]
    words = rdata.split(" ", len(names) - 1)
    words += [""] * (len(names) - len(words))
    return {"data": {name: _value(name, word) for name, word in zip(names, words, strict=True)}}


def _value(name: str, word: str) -> str | int:
    if name in _NUMBERS:
        return int(word)
    if name == "target":
        return _bare(word)
    if name in _HEX:
        return word.replace(" ", "")
    return word.strip('"') if word.startswith('"') else word


def _bare(name: str) -> str:
    """Without the final dot; the root itself keeps it."""
    return name[:-1] if name.endswith(".") and name != "." else name


def _quoted(text: str) -> str:
    """TXT content as the API gives it: quoted strings, or, as made long ago, the bare text."""
    if text.startswith('"'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    parts = [escaped[at : at + 200] for at in range(0, len(escaped), 200)] or [""]
    return " ".join(f'"{part}"' for part in parts)
