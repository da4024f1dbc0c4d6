"""Sites, hosts, roles: the machines a runbook speaks of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Host(_Frozen):
    """A machine reached over SSH.

    ``address`` is a name or an IP; ``become`` names the secret with the sudo password, if one
    is asked. ``vars`` are free for the runbook's templates (``host.vars.x`` or ``host.x``).
    """

    name: str
    address: str
    port: int | None = None
    """None: what ssh_config says, else 22."""
    user: str | None = None
    site: str = ""
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    jump: str | None = None
    """Name of the host to go through (ProxyJump)."""
    identity: str | None = None
    """Path of a private key, besides the agent and ssh_config."""
    become: str | None = None
    vars: dict[str, Any] = Field(default_factory=dict)


class Site(_Frozen):
    name: str
    title: str = ""
    resolver: str | None = None
    """``address`` or ``address:port`` of a recursive resolver at that site."""


class Inventory(_Frozen):
    hosts: tuple[Host, ...] = ()
    sites: tuple[Site, ...] = ()
    known_hosts: tuple[str, ...] = ()
    """Further known_hosts files, besides the user's and the system's."""
    ssh_config: str | None = None

    def get(self, name: str) -> Host | None:
        return next((h for h in self.hosts if h.name == name), None)
