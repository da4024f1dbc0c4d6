"""What several kinds have in common."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from runbook.errors import Errored
from runbook.model.actions import Action
from runbook.model.duration import parse_duration
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned
from runbook.model.ports import CommandResult, HostReads, Reads
from runbook.model.secrets import names_in

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0),
    WithJsonSchema({"type": ["string", "number"], "format": "duration"}),
]
"""A key that holds a duration: written ``90s``, ``10m``, ``1h30m``; seconds in the code."""



def _without_secrets(text: str) -> str:
    found = names_in(text)
    if found:
        raise ValueError(
            f"the secret {found[0]!r} cannot stand here, where others on the machine would see "
            "it: give it to the command through `env:` and use the variable"
        )
    return text


Plain = Annotated[str, AfterValidator(_without_secrets)]
"""A key whose text is written down or shown as it is: a command, a path, a name."""

Command = Annotated[str, Field(min_length=1), AfterValidator(_without_secrets)]
"""A POSIX-sh command."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, int | str) else value


def _one_or_more(item: str) -> WithJsonSchema:
    one = {"type": item}
    return WithJsonSchema({"anyOf": [one, {"type": "array", "items": one}]})


Names = Annotated[tuple[Plain, ...], BeforeValidator(_listed), _one_or_more("string")]
"""A key that takes one text or a list of them."""

Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed), _one_or_more("integer")]
"""A key that takes one whole number or a list of them."""

VIA_HELP = "Host, or hosts, of the inventory to ask from. Not given: the controller."


def via_or_from(schema: dict[str, Any]) -> None:
    """``from:`` is another spelling of ``via:``; a JSON Schema has to say so."""
    schema["properties"]["from"] = {
        **schema["properties"]["via"], "description": "The same as `via`.", "title": "From"
    }


SHOWN = 2000
"""Characters of a command's output that are kept as evidence."""

class CheckKind(Kind):
    """Base of the kinds that look and never act."""

    check: ClassVar[bool] = True

    def plan(self, before: Observation) -> Planned:
        return Planned(reason="a check: it looks and never acts")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: it only looked."""
        return ()


def whose(reads: Reads) -> dict[str, Any]:
    """Evidence that says on which host a step is; None is the controller.

    ``plan`` and ``undo`` are pure and have no ``reads``: they find the host here.
    """
    host = reads.here.host
    return {"host": host.name if host is not None else None}


def holds(here: HostReads, command: str, **options: Any) -> tuple[bool, CommandResult]:
    """Whether a question put as a command has the answer yes (exit status 0).

    Raises Errored where the program was not found or not executable (status 126 or 127 with a
    complaint, XCU section 2.8.2), or ssh could not reach another machine (255 with a complaint,
    ssh(1), section "Exit status"): that is not a no. Without a complaint it is one, as 127 is
    what dash gives for ``command -v``.
    """
    result = here.query(command, **options)
    if result.exit_code in {126, 127, 255} and result.stderr.strip():
        raise Errored(f"`{_short(command)}` could not be run: {tail(result.stderr)}")
    return result.exit_code == 0, result


def seen(result: CommandResult) -> str:
    """A command's result in one line for people."""
    said = tail(result.stdout) or tail(result.stderr)
    return f"exit status {result.exit_code}" + (f": {said}" if said else "")


def tail(text: str, limit: int = 200) -> str:
    """The last line that is not empty, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _short(lines[-1], limit) if lines else ""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def indented(text: str) -> tuple[str, ...]:
    """Lines of a longer text for a preview."""
    return tuple(f"  {line}" for line in text.rstrip("\n").splitlines())


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
