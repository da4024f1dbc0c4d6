"""IP addresses written out inside record data: finding them and replacing them. Pure text.

Which types can hold one: A, AAAA (RFC 1035, 3596), the ``ipv4hint``/``ipv6hint`` parameters of
SVCB and HTTPS (RFC 9460), the ``ip4:``/``ip6:`` mechanisms of SPF (RFC 7208, type TXT), and the
URLs inside URI, CAA and NAPTR. Record data is in presentation format, as in
:class:`~runbook.model.dns.RRset`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Translate = Callable[[Network], Network | None]
"""The network that takes another's place, or None where it stays."""

REWRITABLE = frozenset({"A", "AAAA", "HTTPS", "SVCB", "TXT", "SPF"})
"""Types in which an address can be replaced safely."""

_HINT = re.compile(r'\b(ipv4hint|ipv6hint)=("?)([0-9A-Fa-f:.,]+)\2')
_SPF_IP = re.compile(r"(?i)(?<![^\s])([+?~-]?ip[46]:)([0-9A-Fa-f:.]+(?:/\d{1,3})?)(?=\s|$)")
_URL_HOST = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.]*\w)|\[([0-9A-Fa-f:.]+)\]")
_TXT_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_TXT_UNIT = re.compile(r"\\\d{3}|\\.|.", re.DOTALL)


def parse_network(text: str) -> Network:
    """An address or a CIDR. Raises ValueError with a readable message."""
    try:
        return ipaddress.ip_network(text.strip(), strict=True)
    except ValueError as fault:
        raise ValueError(
            f"{text!r} is neither an IP address nor a network like 198.51.100.0/24: {fault}"
        ) from fault


def parse_networks(addresses: str | Sequence[str]) -> tuple[Network, ...]:
    """One or several addresses or CIDRs. Raises ValueError."""
    several = [addresses] if isinstance(addresses, str) else list(addresses)
    return tuple(parse_network(one) for one in several)


def overlaps(one: Network, several: Sequence[Network]) -> bool:
    """Whether a network shares an address with any of several."""
    return any(one.version == other.version and one.overlaps(other) for other in several)


def show(network: Network) -> str:
    """A network of one address is shown as that address."""
    if network.num_addresses == 1:
        return str(network.network_address)
    return str(network)


def txt_text(rdata: str) -> str:
    """The strings of a TXT record joined, still with its escapes."""
    return "".join(quoted or bare for quoted, bare in _TXT_PART.findall(rdata))


def txt_rdata(text: str) -> str:
    """Presentation format of a (still escaped) text, in strings of at most 255 octets."""
    units = _TXT_UNIT.findall(text)
    parts = ["".join(units[at : at + 255]) for at in range(0, len(units), 255)] or [""]
    return " ".join(f'"{part}"' for part in parts)


def is_spf(rtype: str, rdata: str) -> bool:
    """Whether a record is an SPF policy (RFC 7208 section 4.5)."""
    text = txt_text(rdata).lower() if rtype in {"TXT", "SPF"} else ""
    return text == "v=spf1" or text.startswith("v=spf1 ")


def _network_or_none(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def literals(rtype: str, rdata: str) -> tuple[Network, ...]:
    """Every address or network written out in one record's data."""
    if rtype in {"A", "AAAA"}:
        found = [rdata]
    elif rtype in {"HTTPS", "SVCB"}:
        found = [one for _, _, value in _HINT.findall(rdata) for one in value.split(",")]
    elif is_spf(rtype, rdata):
        found = [value for _, value in _SPF_IP.findall(txt_text(rdata))]
    elif rtype in {"URI", "CAA", "NAPTR"}:
        found = [v4 or v6 for v4, v6 in _URL_HOST.findall(rdata)]
    else:
        found = []
    networks = (_network_or_none(one) for one in found)
    return tuple(one for one in networks if one is not None)


def mentions(rdata: str) -> tuple[Network, ...]:
    """Addresses that stand anywhere in a text, e.g. in a TXT record that is no SPF policy."""
    words = re.split(r"[\s\"'=,;()<>\[\]]+", rdata)
    networks = (_network_or_none(word) for word in words if "." in word or ":" in word)
    return tuple(one for one in networks if one is not None)


def rewrite(rtype: str, rdata: str, translate: Translate) -> str:
    """The record's data with every literal replaced that ``translate`` knows.

    Only for the types in ``REWRITABLE``; any other is returned as it is.
    """
    if rtype in {"A", "AAAA"}:
        return _moved(rdata, translate)
    if rtype in {"HTTPS", "SVCB"}:
        return _HINT.sub(
            lambda m: f"{m[1]}={m[2]}{_moved_list(m[3], translate)}{m[2]}", rdata
        )
    if is_spf(rtype, rdata):
        old = txt_text(rdata)
        new = _SPF_IP.sub(lambda m: m[1] + _moved(m[2], translate), old)
        return rdata if new == old else txt_rdata(new)
    return rdata


def _moved(text: str, translate: Translate) -> str:
    network = _network_or_none(text)
    target = translate(network) if network is not None else None
    if target is None:
        return text
    return str(target) if "/" in text else show(target)


def _moved_list(text: str, translate: Translate) -> str:
    moved = (_moved(one, translate) for one in text.split(","))
    return ",".join(dict.fromkeys(moved))
