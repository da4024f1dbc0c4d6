"""Where a name of the plan is really to be found in an embedded world.

In production nothing is redirected. A sandbox writes this table, and the transports look every
connection up in it: what is not in the table is refused, so a rehearsal can never reach a real
machine by accident.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from runbook.errors import Errored


class SshEndpoint(BaseModel):
    model_config = ConfigDict(frozen=True)

    address: str
    port: int
    user: str
    identity: str
    """Path of the private key to log in with."""
    known_hosts: str
    """Path of a known_hosts file that holds this host's key."""


class Endpoints(BaseModel):
    """All redirections of one world."""

    model_config = ConfigDict(frozen=True)

    ssh: dict[str, SshEndpoint] = Field(default_factory=dict)
    """By host name of the inventory."""
    tcp: dict[str, str] = Field(default_factory=dict)
    """``address:port`` as the plan's world knows it → ``127.0.0.1:port``."""
    dns: dict[str, str] = Field(default_factory=dict)
    """Address (or name) of a name server or resolver → ``127.0.0.1:port``."""
    resolver: str
    """``127.0.0.1:port`` of the resolver that stands for the controller's own."""
    clock: str
    """Path of the world's clock file."""
    names: dict[str, str] = Field(default_factory=dict)
    """Addresses of inventory host names, as the world's programs see them."""

    secrets: dict[str, str] = Field(default_factory=dict)
    """Values that stand for the runbook's secrets in this world; made up, never real ones."""
    controller: dict[str, str] = Field(default_factory=dict)
    """Environment of commands on the controller itself: a folder of the world is their home,
    and ssh, rsync and curl see the world only."""
    tsig: dict[str, str] = Field(default_factory=dict)
    """Made-up TSIG keys, ``name:algorithm:base64``, by what each zone is called whose
    provider has an API in production: this world's own name server stands for it."""
    fail: tuple[str, ...] = ()
    """Steps that are made to fail after they acted: faults of a rehearsal."""

    def connect(self, address: str, port: int) -> tuple[str, int]:
        """Where to connect for ``address:port``. Raises Errored when the world has no such."""
        found = self.tcp.get(f"{address}:{port}")
        if found is None:
            raise Errored(
                f"nothing listens at {address}:{port} in this sandbox",
                hint="declare it under `listen:` of a host in sandbox.yml",
            )
        host, _, number = found.rpartition(":")
        return host, int(number)

    def nameserver(self, address: str, port: int = 53) -> tuple[str, int]:
        """Where to send DNS questions meant for ``address``. Raises Errored."""
        found = self.dns.get(address) or self.dns.get(f"{address}:{port}")
        if found is None:
            raise Errored(f"no name server {address} in this sandbox")
        host, _, number = found.rpartition(":")
        return host, int(number)
