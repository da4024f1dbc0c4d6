"""The kind ``tcp.check``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AliasChoices, ConfigDict, Field

from runbook.kinds._shared import VIA_HELP, CheckKind, Duration, Names, via_or_from
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import Reads


class TcpCheck(CheckKind):
    """See whether a TCP port takes connections.

    `expect: closed` proves the opposite: that a fenced service takes none. Closed means that a
    connection was refused or timed out; a name that does not exist is never a proof.
    """

    model_config = ConfigDict(json_schema_extra=via_or_from)

    name: ClassVar[str] = "tcp.check"
    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    output_names: ClassVar[dict[str, str]] = {"open": "whether every vantage point got through"}
    example: ClassVar[str] = """\
- id: database-listens
  kind: tcp.check
  with: {host: db1.west.example, port: 5432, via: west-app1}
"""

    host: str = Field(min_length=1, description="Name or address to connect to.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    expect: Literal["open", "closed"] = Field(default="open", description="What must be so.")
    via: Names = Field(
        default=(), validation_alias=AliasChoices("via", "from"), description=VIA_HELP
    )
    timeout: Duration = Field(default=5.0, description="For one attempt.")

    def named_hosts(self) -> tuple[str, ...]:
        return self.via

    def observe(self, reads: Reads) -> Observation:
        found = {
            via or "": reads.net.tcp(self.host, self.port, timeout=self.timeout, via=via)
            for via in self.via or (None,)
        }
        state = {"open": {via: not why for via, why in found.items()}}
        return Observation(state=state, evidence={"why": found}, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        reasons: dict[str, str] = after.evidence.get("why", {})
        outputs = {"open": bool(reasons) and not any(reasons.values())}
        unproven = {via: why for via, why in reasons.items() if not _proves(why, self.expect)}
        where = f"{self.host}:{self.port}"
        if reasons and not unproven:
            return Verdict(ok=True, seen=f"{where} is {self.expect}", outputs=outputs)
        told = "; ".join(
            f"{f'from {via}: ' if via else ''}{why or 'it takes connections'}"
            for via, why in unproven.items()
        )
        return Verdict(ok=False, seen=f"{where} is not {self.expect}: {told}", outputs=outputs)

    def preview(self) -> tuple[str, ...]:
        origin = f", from {', '.join(self.via)}" if self.via else ""
        return (f"{self.host}:{self.port} is {self.expect}{origin}",)


def _proves(why: str, expect: str) -> bool:
    if expect == "open":
        return not why
    return why.startswith(("connection refused", "timed out"))
