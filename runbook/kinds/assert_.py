"""The kind ``assert``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from runbook.kinds._shared import CheckKind, Command, holds, seen
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import Reads


class Assert(CheckKind):
    """State what must be true, and fail where it is not.

    `that` holds values rendered by the runbook, such as `"{{ outputs.count.rows == 812 }}"`.
    A text that is neither true nor false fails too: most likely its braces were forgotten.
    `command` asks the step's host, or the controller; it must only read.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: ClassVar[str] = "assert"
    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    example: ClassVar[str] = """\
- id: same-number-of-orders
  kind: assert
  hosts: west-db1
  with:
    command: test "$(cat /var/lib/shop/orders.count)" = 812
    message: the new database does not have every order
"""

    that: Any = Field(default=None, description="A condition, or a list of them: all must hold.")
    command: Command | None = Field(
        default=None, description="Read-only command that must exit with 0."
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the command."
    )
    message: str = Field(default="", description="What it means when it does not hold.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.that is None and self.command is None:
            raise ValueError("give `that`, `command`, or both")
        return self

    def observe(self, reads: Reads) -> Observation:
        faults = [fault for fault in map(_fault, self._conditions()) if fault]
        evidence: dict[str, Any] = {}
        if self.command is not None:
            held, result = holds(reads.here, self.command, env=self.env)
            evidence["command"] = seen(result)
            if not held:
                faults.append(f"`{self.command}` gave {evidence['command']}")
        return Observation(
            state={"holds": not faults}, evidence={**evidence, "faults": faults}, at=reads.now()
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        faults = after.evidence.get("faults", ["it was not looked at"])
        if not faults:
            return Verdict(ok=True, seen=after.evidence.get("command") or "it holds")
        told = "; ".join(faults)
        return Verdict(
            ok=False,
            seen=f"{self.message}: {told}" if self.message else told,
            # A rendered value stays what it is; only a command can give another answer.
            retry=self.command is not None,
        )

    def preview(self) -> tuple[str, ...]:
        lines = [f"that: {condition}" for condition in self._conditions()]
        return tuple(lines + ([f"$ {self.command}"] if self.command is not None else []))

    def _conditions(self) -> list[Any]:
        if self.that is None:
            return []
        return list(self.that) if isinstance(self.that, list | tuple) else [self.that]


def _fault(value: Any) -> str:
    """Empty where a rendered condition is true, else what is wrong with it."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"true", "false"}:
            return "" if word == "true" else "a condition is false"
        return f'{value!r} is a text, not true or false: write it as "{{{{ … }}}}"'
    return "" if value else f"a condition is {str(value).lower()}"
