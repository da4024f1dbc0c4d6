"""DNS transport: guarded changes and questions, one file a provider."""

from runbook.transports.dns.transport import DnsTransport
from runbook.transports.dns.zonefile import read_zone_file

__all__ = ["DnsTransport", "read_zone_file"]
