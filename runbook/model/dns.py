"""DNS values: record sets and changes to them. No network here.

A :class:`Change` carries the set as it was and as it shall be. ``before`` is at once the
compare-and-swap token and the snapshot for undo; a rollback is the same change swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Frozen):
    """One of several answers to the same question, given in proportion to its weight."""

    name: str
    """The provider's own name of it; Route 53: ``SetIdentifier``."""
    weight: int
    ttl: int
    rdatas: tuple[str, ...]
    also: str = ""
    """What else the provider keeps with it, in its own words (JSON): a health check, the target
    of an alias. Part of its identity, and written back as it was read."""


class RRset(_Frozen):
    """A record set. ``name`` is absolute with a final dot, lower case; ``rdatas`` are in
    canonical presentation format (absolute names, lower case), sorted, without repeats.

    A *weighted* set is all its variants together, so that it is compared, swapped and put back as
    a whole: ``rdatas`` are then those of all variants and ``ttl`` is the greatest of theirs.
    """

    name: str
    rtype: str
    ttl: int
    rdatas: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    """By name; empty for a plain set."""

    @property
    def key(self) -> tuple[str, str]:
        """Identity inside a zone: (name, type)."""
        return (self.name, self.rtype)

    def with_ttl(self, ttl: int) -> RRset:
        variants = tuple(
            one.model_copy(update={"ttl": ttl}) if one.rdatas else one for one in self.variants
        )
        return self.model_copy(update={"ttl": ttl, "variants": variants})

    @property
    def weights(self) -> dict[str, int]:
        """Of a weighted set, by variant."""
        return {one.name: one.weight for one in self.variants}

    def with_weights(self, weights: Mapping[str, int]) -> RRset:
        """The same variants with other weights; those that are not named keep theirs."""
        variants = tuple(
            one.model_copy(update={"weight": weights.get(one.name, one.weight)})
            for one in self.variants
        )
        return self.model_copy(update={"variants": variants})

    def __str__(self) -> str:
        if self.variants:
            return f"{self.name} {self.ttl} {self.rtype} {show_weights(self.weights)}"
        return f"{self.name} {self.ttl} {self.rtype} {', '.join(self.rdatas)}"


class Change(_Frozen):
    """Replace ``before`` by ``after`` as a whole; ``None`` means the set does not exist."""

    before: RRset | None
    after: RRset | None

    @property
    def reversed(self) -> Change:
        return Change(before=self.after, after=self.before)

    @property
    def key(self) -> tuple[str, str]:
        one = self.after or self.before
        if one is None:
            raise ValueError("a change needs a before or an after")
        return one.key


def show_weights(weights: Mapping[str, int]) -> str:
    """``east 95, west 5``."""
    return ", ".join(f"{name} {weight}" for name, weight in weights.items())


def zone_name(text: str) -> str:
    """What a zone is called in a run: absolute, lower case, with a final dot: ``shop.example.``.

    Where several views of one zone are declared, ``shop.example@inside`` names one of them.
    """
    name, _, view = text.strip().lower().partition("@")
    bare = name.rstrip(".")
    return f"{bare}@{view}" if view else f"{bare}."


def zone_origin(text: str) -> str:
    """The domain name of a zone that is given as people write it, view or not."""
    return zone_name(text.partition("@")[0])


class NameServer(_Frozen):
    """One address of one authoritative server."""

    name: str
    address: str
    port: int = 53
    key: str | None = None
    """Name of the secret that questions are signed with, where the key opens a view."""

    def __str__(self) -> str:
        known_by_address = self.address in self.name
        return self.name if known_by_address else f"{self.name} ({self.address})"


class Answer(_Frozen):
    """What one server said to one question.

    ``rcode`` is ``NOERROR``, ``NXDOMAIN``, ``SERVFAIL``, … or ``UNREACHABLE`` where nobody
    answered, ``BADKEY`` where the server does not take the key of the view. ``rrset`` is the set
    at the end of the CNAME chain, ``chain`` the links on the way.
    ``at`` is the run's time (Unix seconds) *after* the answer had arrived.
    """

    server: str
    rcode: str
    rrset: RRset | None
    chain: tuple[RRset, ...] = ()
    authoritative: bool = False
    at: float = 0.0

    @property
    def ok(self) -> bool:
        return self.rcode == "NOERROR" and self.rrset is not None


class ProviderCaps(_Frozen):
    """What a DNS provider can promise."""

    cas: str
    """``server``: prerequisites are checked by the server; ``read-check``: we re-read first."""
    ttl_in_cas: bool
    atomic_batch: bool
    min_ttl: int = 0
    max_ttl: int = 2**31 - 1
    max_weight: int = 0
    """The greatest weight that a variant of a set can have; 0: it knows no weights."""


PROVIDERS: Mapping[str, ProviderCaps] = MappingProxyType(
    {
        "rfc2136": ProviderCaps(cas="server", ttl_in_cas=True, atomic_batch=True),
        "route53": ProviderCaps(
            cas="server", ttl_in_cas=True, atomic_batch=True, max_weight=255
        ),
        "powerdns": ProviderCaps(cas="read-check", ttl_in_cas=True, atomic_batch=True),
        "cloudflare": ProviderCaps(
            cas="read-check", ttl_in_cas=True, atomic_batch=True, min_ttl=60, max_ttl=86400
        ),
        "octodns": ProviderCaps(cas="read-check", ttl_in_cas=True, atomic_batch=False),
        "file": ProviderCaps(cas="read-check", ttl_in_cas=True, atomic_batch=True),
    }
)
"""Every way to change a zone, and what it promises: the values of ``provider:``."""


class Zone(_Frozen):
    """A zone as the runbook declares it: who serves it and how it is changed."""

    name: str
    """The domain name: absolute, with a final dot."""
    view: str = ""
    """Which of several zones of this name (split horizon): ``shop.example@inside``. Questions to
    the servers of a view are signed with its ``key``, by which a server tells views apart."""
    provider: str = "rfc2136"
    """One of ``PROVIDERS``."""
    servers: tuple[str, ...] = ()
    """``name``, ``address`` or ``address:port`` of the servers to update and ask, primary
    first. Empty: found from the NS records."""
    secondaries: tuple[str, ...] = ()
    key: str | None = None
    """Name of a secret. ``rfc2136``: the TSIG key, ``name:algorithm:base64``; ``powerdns``: the
    API key; ``cloudflare``: an API token; ``route53``: ``key id:secret[:session token]``, without
    it the credentials of the environment."""
    endpoint: str | None = None
    """URL of the provider's API, where it has no fixed one: ``http://127.0.0.1:8081``."""
    zone_id: str | None = None
    """The provider's own name of the zone. None: found by its name."""
    file: str | None = None
    """A zone file to plan with while offline."""
    resolvers: tuple[str, ...] = ()
    provider_class: str | None = None
    """``octodns``: the class of the provider, ``octodns_bind.Rfc2136Provider``."""
    options: dict[str, Any] = {}
    """``octodns``: what the class is made with. JSON values, no secrets."""
    keys: dict[str, str] = {}
    """``octodns``: options that are secrets, each with the name of the secret."""

    @property
    def called(self) -> str:
        """What it is called in a run; see :func:`zone_name`."""
        return zone_name(f"{self.name}@{self.view}")

    @property
    def question_key(self) -> str | None:
        """Name of the secret that questions to its servers are signed with."""
        return self.key if self.view and self.provider == "rfc2136" else None

    @property
    def caution(self) -> str:
        """What a person should know before this zone is changed; empty where it is guarded."""
        if self.provider == "file":
            return f"{self.called} is only known as a file (provider: file): it cannot be changed"
        caps = PROVIDERS.get(self.provider)
        if caps is None or caps.cas == "server":
            return ""
        parts = "" if caps.atomic_batch else (
            "; nor is it sure to change all sets or none: where it stops between, that is told"
        )
        return (
            f"{self.provider} has no compare-and-swap ({caps.cas}): the sets are read again right "
            f"before they are written; what somebody else changes between the two is "
            f"overwritten{parts}"
        )
