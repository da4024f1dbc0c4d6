"""Zone files (RFC 1035 section 5), read without a name server."""

from __future__ import annotations

from pathlib import Path

import dns.exception
import dns.zone

from runbook.errors import Diagnostic, InvalidInput, Position
from runbook.model.dns import RRset
from runbook.transports.dns.records import canonical_name, zone_records


def read_zone_file(path: Path | str, origin: str) -> tuple[RRset, ...]:
    """The record sets of a zone file in canonical form, by name and type.

    The SOA and DNSSEC's own types are left out, as in a zone transfer. ``$INCLUDE`` is refused.
    Raises InvalidInput where the file cannot be read or is not a zone.
    """
    file = Path(path)
    where = Position(file, 1, 1)
    try:
        text = file.read_text(encoding="utf-8")
        zone = dns.zone.from_text(
            text, origin=canonical_name(origin), relativize=False, filename=str(file)
        )
        return zone_records(zone)
    except OSError as fault:
        problem = Diagnostic(
            f"the zone file cannot be read: {fault.strerror}", where,
            "give `file:` relative to the runbook's folder",
        )
    except (dns.exception.DNSException, ValueError, KeyError) as fault:
        problem = Diagnostic(
            f"{file.name} is not a zone file of {origin}: {fault or type(fault).__name__}",
            _position(file, str(fault)) or where,
            "a zone file starts with an SOA and NS records at the origin",
        )
    raise InvalidInput((problem,))


def _position(file: Path, text: str) -> Position | None:
    """dnspython prefixes its message with ``file:line:``."""
    head, _, rest = text.partition(f"{file}:")
    number = rest.partition(":")[0]
    return Position(file, int(number), 1) if not head and number.isdigit() else None
