"""The kind ``poll``."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from runbook.kinds._shared import SHOWN, CheckKind, Command, holds, seen
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class PollCommand(CheckKind):
    """Ask a read-only command again and again until it says what is expected.

    Without `contains`, `matches` or `equals` it is expected to exit with 0; with one of them its
    exit status does not count unless `exit_code` is given too. The rhythm is the step's `poll:`;
    without one it asks every 5 seconds for 10 minutes.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: ClassVar[str] = "poll"
    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    poll: ClassVar[Poll | None] = Poll(every=5.0, timeout=600.0)
    estimate: ClassVar[float] = 30.0
    output_names: ClassVar[dict[str, str]] = {
        "stdout": "what the command printed last (its first 2000 characters)",
        "exit_code": "its exit status",
    }
    example: ClassVar[str] = """\
- id: replica-caught-up
  kind: poll
  hosts: west-db1
  with:
    command: cat /var/lib/shop/replication-lag
    equals: "0"
  poll: {every: 1s, timeout: 5m, stable: 3}
"""

    command: Command = Field(description="The command; it must only read.")
    contains: str | None = Field(default=None, description="Text its output must contain.")
    matches: str | None = Field(
        default=None, description="Regular expression that must be found in its output."
    )
    equals: str | None = Field(
        default=None, description="What it must print, spaces and line ends around it aside."
    )
    exit_code: int | None = Field(default=None, description="The exit status it must have.")
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the command."
    )

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as fault:
                raise ValueError(f"not a regular expression: {fault}") from fault
        return value

    def observe(self, reads: Reads) -> Observation:
        _, result = holds(reads.here, self.command, env=self.env)
        faults = []
        wanted = self.exit_code
        if wanted is None and self.contains is self.matches is self.equals is None:
            wanted = 0
        if wanted is not None and result.exit_code != wanted:
            faults.append(seen(result))
        text = result.stdout
        if self.contains is not None and self.contains not in text:
            faults.append(f"the output does not contain {self.contains!r} ({seen(result)})")
        if self.matches is not None and re.search(self.matches, text, re.MULTILINE) is None:
            faults.append(f"the output does not match {self.matches!r} ({seen(result)})")
        if self.equals is not None and text.strip() != self.equals.strip():
            faults.append(f"the output is not {self.equals!r} ({seen(result)})")
        evidence = {
            "faults": faults, "seen": seen(result), "stdout": text[:SHOWN],
            "exit_code": result.exit_code,
        }
        return Observation(state={"holds": not faults}, evidence=evidence, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        outputs = {key: after.evidence.get(key) for key in ("stdout", "exit_code")}
        faults = after.evidence.get("faults", ["it was not asked"])
        if faults:
            return Verdict(ok=False, seen="; ".join(faults), outputs=outputs)
        return Verdict(ok=True, seen=str(after.evidence.get("seen", "")), outputs=outputs)

    def preview(self) -> tuple[str, ...]:
        wanted = {"contains": self.contains, "matches": self.matches, "equals": self.equals}
        told = [f"{key} {value!r}" for key, value in wanted.items() if value is not None]
        return (f"$ {self.command}", f"until {' and '.join(told) or 'it exits with 0'}")
