"""DNS values: record sets and changes to them. No network here.

A :class:`Change` carries the set as it was and as it shall be. ``before`` is at once the
compare-and-swap token and the snapshot for undo; a rollback is the same change swapped.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RRset(_Frozen):
    """A record set. ``name`` is absolute with a final dot, lower case; ``rdatas`` are in
    canonical presentation format (absolute names, lower case), sorted, without repeats."""

    name: str
    rtype: str
    ttl: int
    rdatas: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Identity inside a zone: (name, type)."""
        return (self.name, self.rtype)

    def with_ttl(self, ttl: int) -> RRset:
        return self.model_copy(update={"ttl": ttl})

    def __str__(self) -> str:
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


class NameServer(_Frozen):
    """One address of one authoritative server."""

    name: str
    address: str
    port: int = 53

    def __str__(self) -> str:
        known_by_address = self.address in self.name
        return self.name if known_by_address else f"{self.name} ({self.address})"


class Answer(_Frozen):
    """What one server said to one question.

    ``rcode`` is ``NOERROR``, ``NXDOMAIN``, ``SERVFAIL``, … or ``UNREACHABLE`` where nobody
    answered. ``rrset`` is the set at the end of the CNAME chain, ``chain`` the links on the way.
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


class Zone(_Frozen):
    """A zone as the runbook declares it: who serves it and how it is changed."""

    name: str
    """Absolute, with a final dot."""
    provider: str = "rfc2136"
    servers: tuple[str, ...] = ()
    """``name``, ``address`` or ``address:port`` of the servers to update and ask, primary
    first. Empty: found from the NS records."""
    secondaries: tuple[str, ...] = ()
    key: str | None = None
    """Name of a secret that holds the TSIG key: ``name:algorithm:base64``."""
    file: str | None = None
    """A zone file to plan with while offline."""
    resolvers: tuple[str, ...] = ()
