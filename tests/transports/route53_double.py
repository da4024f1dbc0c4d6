"""Route 53's REST API (2013-04-01) as its reference describes it, for one hosted zone.

Enforced: the access key; a change batch is transactional; DELETE has to match values, TTL and
everything else of a set as it stands; CREATE fails where a set of that name, type and identifier
exists; a CNAME beside nothing else; the zone keeps its SOA and NS; at most 1000 record values a
batch. A listing is in the order of reversed labels, by pages; unusual characters are octal.

Of sets with a routing policy: an identifier of 1 to 128 characters and exactly one policy each, one
policy a name and type and no plain set beside it; a weight from 0 to 255, one record and at most
100 sets of a name and type; the TTL of the one made last becomes that of all.
"""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from typing import Any
from xml.sax.saxutils import escape

from runbook.model.dns import RRset
from tests.transports.api_double import Double

ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE", "secret-of-aws-0123456789"
ZONE_ID = "Z0123456789ABC"
ORIGIN = "shop.example."
_NS = "https://route53.amazonaws.com/doc/2013-04-01/"
_VERSION = "/2013-04-01"
Key = tuple[str, str, str]


class Route53Double(Double):
    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[Key, dict[str, Any]] = {}
        self.largest_page = 5
        self.private_twin = False
        """A private hosted zone of the same name stands beside it."""
        self.put(RRset(
            name=ORIGIN, rtype="SOA", ttl=900,
            rdatas=("ns1.shop.example. hostmaster.shop.example. 1 7200 900 1209600 86400",),
        ))

    def put(self, rrset: RRset, **more: Any) -> None:
        """``more``: SetIdentifier, Weight, Region, HealthCheckId."""
        made = {"TTL": rrset.ttl, "Values": list(rrset.rdatas), **more}
        self.sets[(rrset.name, rrset.rtype, more.get("SetIdentifier", ""))] = made

    def put_alias(self, name: str, target: str, **more: Any) -> None:
        made = {"AliasTarget": target, "Values": [], **more}
        self.sets[(name, "A", more.get("SetIdentifier", ""))] = made

    def weights(self, name: str, rtype: str = "A") -> dict[str, int]:
        return {
            key[2]: data["Weight"] for key, data in self.sets.items()
            if key[:2] == (name, rtype) and "Weight" in data
        }

    def answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, str, bytes]:
        if f"Credential={ACCESS_KEY}/" not in headers.get("Authorization", ""):
            return _fault(403, "InvalidClientTokenId", "The security token is invalid.")
        if path == f"{_VERSION}/hostedzonesbyname":
            return _ok("ListHostedZonesByNameResponse", self._zones())
        if path.rstrip("/") != f"{_VERSION}/hostedzone/{ZONE_ID}/rrset":
            return _fault(404, "NoSuchHostedZone", f"No hosted zone found at {path}")
        if method == "GET":
            return _ok("ListResourceRecordSetsResponse", self._listing(query))
        return self._batch(body)

    def _zones(self) -> str:
        rows = f"<HostedZone><Id>/hostedzone/{ZONE_ID}</Id><Name>{ORIGIN}</Name>" \
            "<CallerReference>a</CallerReference><Config><PrivateZone>false</PrivateZone>" \
            "</Config></HostedZone>"
        if self.private_twin:
            rows += f"<HostedZone><Id>/hostedzone/ZPRIVATE</Id><Name>{ORIGIN}</Name>" \
                "<CallerReference>b</CallerReference><Config><PrivateZone>true</PrivateZone>" \
                "</Config></HostedZone>"
        rows += "<HostedZone><Id>/hostedzone/ZNEXT</Id><Name>shop2.example.</Name>" \
            "<CallerReference>c</CallerReference></HostedZone>"
        return f"<HostedZones>{rows}</HostedZones><IsTruncated>false</IsTruncated>" \
            "<MaxItems>100</MaxItems>"

    def _listing(self, query: dict[str, str]) -> str:
        start = (
            _order(query.get("name", "")), query.get("type", ""), query.get("identifier", "")
        )
        keys = sorted(self.sets, key=lambda key: (_order(key[0]), key[1], key[2]))
        if "name" in query:
            keys = [k for k in keys if (_order(k[0]), k[1], k[2]) >= start]
        size = min(int(query.get("maxitems", "300")), self.largest_page)
        page, rest = keys[:size], keys[size:]
        told = "".join(_set_xml(key, self.sets[key]) for key in page)
        cut = "true" if rest else "false"
        more = f"<IsTruncated>{cut}</IsTruncated><MaxItems>{size}</MaxItems>"
        if rest:
            name, rtype, identifier = rest[0]
            more += f"<NextRecordName>{escape(_octal(name))}</NextRecordName>"
            more += f"<NextRecordType>{rtype}</NextRecordType>"
            if identifier:
                more += f"<NextRecordIdentifier>{identifier}</NextRecordIdentifier>"
        return f"<ResourceRecordSets>{told}</ResourceRecordSets>{more}"

    def _batch(self, body: bytes) -> tuple[int, str, bytes]:
        after, faults, values = copy.deepcopy(self.sets), [], 0
        for change in ET.fromstring(body).iter(f"{{{_NS}}}Change"):
            action = _text(change, "Action")
            found = change.find(f"{{{_NS}}}ResourceRecordSet")
            assert found is not None
            key, data = _parsed(found)
            values += len(data["Values"])
            faults += _one(after, action, key, data)
        if values > 1000:
            faults.append("Number of records limit of 1000 exceeded.")
        for kind in ("SOA", "NS"):
            if (ORIGIN, kind, "") not in after:
                faults.append(f"A HostedZone must contain at least one {kind} record")
        if faults:
            return _fault(400, "InvalidChangeBatch", f"[{', '.join(faults)}]")
        self.sets = after
        return _ok(
            "ChangeResourceRecordSetsResponse",
            "<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status>"
            "<SubmittedAt>2009-09-12T05:00:00Z</SubmittedAt></ChangeInfo>",
        )


def _one(
    sets: dict[Key, dict[str, Any]], action: str, key: Key, data: dict[str, Any]
) -> list[str]:
    what = f"[name='{key[0]}', type='{key[1]}']"
    there = sets.get(key)
    if action == "DELETE":
        if there is None:
            return [f"Tried to delete resource record set {what} but it was not found"]
        if _comparable(there) != _comparable(data):
            return [f"Tried to delete resource record set {what} but the values provided do not "
                    "match the current values"]
        del sets[key]
        return []
    assert action == "CREATE", "UPSERT asks nothing of what is there"
    others = [data for k, data in sets.items() if k[:2] == key[:2]]
    if there is not None:
        return [f"Tried to create resource record set {what} but it already exists"]
    if any(_policies(one) != _policies(data) for one in others):
        return [f"RRSet with DNS name {key[0]}, type {key[1]}, SetIdentifier {key[2] or 'null'} "
                "cannot be created as other RRSets exist with the same name and type"]
    if key[2] or _policies(data):
        faults = _of_policy(key, data, len(others))
        if faults:
            return faults
        for one in others:
            if "TTL" in one and "TTL" in data:
                one["TTL"] = data["TTL"]
    if any(k[0] == key[0] and "CNAME" in {k[1], key[1]} for k in sets):
        return [f"RRSet of type {key[1]} with DNS name {key[0]} is not permitted as it conflicts "
                "with other records with the same DNS name"]
    sets[key] = data
    return []


def _policies(data: dict[str, Any]) -> set[str]:
    return data.keys() & {"Weight", "Region"}


def _of_policy(key: Key, data: dict[str, Any], others: int) -> list[str]:
    faults = []
    if not 1 <= len(key[2]) <= 128:
        faults.append(f"Invalid SetIdentifier {key[2]!r}")
    if len(_policies(data)) != 1:
        faults.append("Expected exactly one of [Weight, Region, Failover, GeoLocation, …]")
    if "Weight" in data:
        if not 0 <= data["Weight"] <= 255:
            faults.append(f"Invalid Weight {data['Weight']}")
        if len(data["Values"]) > 1:
            faults.append("Only one ResourceRecord may be given for a weighted RRSet")
        if others >= 100:
            faults.append("There are 100 weighted RRSets of that name and type")
    return faults


def _comparable(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "Values": sorted(data["Values"])}


def _parsed(found: ET.Element) -> tuple[Key, dict[str, Any]]:
    name = re.sub(r"\\052", "*", _text(found, "Name"))
    values = [str(one.text) for one in found.iter(f"{{{_NS}}}Value")]
    identifier = _text(found, "SetIdentifier")
    data: dict[str, Any] = {"Values": values}
    if identifier:
        data["SetIdentifier"] = identifier
    for tag, of in (("TTL", int), ("Weight", int), ("Region", str), ("HealthCheckId", str)):
        if _text(found, tag):
            data[tag] = of(_text(found, tag))
    alias = found.find(f"{{{_NS}}}AliasTarget")
    if alias is not None:
        data["AliasTarget"] = _text(alias, "DNSName")
    return (name, _text(found, "Type"), identifier), data


def _text(element: ET.Element, tag: str) -> str:
    found = element.find(f"{{{_NS}}}{tag}")
    return "" if found is None else str(found.text)


def _order(name: str) -> str:
    name = re.sub(r"\\052", "*", name)
    return ".".join(reversed(name.rstrip(".").split("."))) + "."


def _octal(name: str) -> str:
    return name.replace("*", "\\052")


def _set_xml(key: Key, data: dict[str, Any]) -> str:
    name, rtype, _identifier = key
    inside = f"<Name>{escape(_octal(name))}</Name><Type>{rtype}</Type>"
    inside += "".join(
        f"<{tag}>{data[tag]}</{tag}>" for tag in ("SetIdentifier", "Weight", "Region")
        if tag in data
    )
    if "AliasTarget" in data:
        inside += (
            "<AliasTarget><HostedZoneId>Z2</HostedZoneId>"
            f"<DNSName>{data['AliasTarget']}</DNSName>"
            "<EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
        )
    else:
        values = "".join(
            f"<ResourceRecord><Value>{escape(v)}</Value></ResourceRecord>" for v in data["Values"]
        )
        inside += f"<TTL>{data['TTL']}</TTL><ResourceRecords>{values}</ResourceRecords>"
    if "HealthCheckId" in data:
        inside += f"<HealthCheckId>{data['HealthCheckId']}</HealthCheckId>"
    return f"<ResourceRecordSet>{inside}</ResourceRecordSet>"


def _ok(tag: str, inside: str) -> tuple[int, str, bytes]:
    return 200, "text/xml", f'<?xml version="1.0"?><{tag} xmlns="{_NS}">{inside}</{tag}>'.encode()


def _fault(status: int, code: str, message: str) -> tuple[int, str, bytes]:
    text = (
        f'<?xml version="1.0"?><ErrorResponse xmlns="{_NS}"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        "<RequestId>1</RequestId></ErrorResponse>"
    )
    return status, "text/xml", text.encode()
