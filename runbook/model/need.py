"""What a step relies on, as a probe looks at it before anything is done."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Need(BaseModel):
    """One thing that has to be so when the step acts: a right, room, a version, a neighbour.

    ``what`` says it as a statement that is true where the need is met; it is also what two probes
    are compared by, so nothing that changes by itself may stand in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    ok: bool | None
    """None: nobody can tell."""
    seen: str = ""
    hint: str = ""
    """What to do where it is not met."""
    grave: bool = True
    """Without it the step fails. False: a person should know, and no more."""
    fact: str = ""
    """What it stands at, where another value is news: a version, a date. Never what changes by
    itself, such as free space."""
    ends: float | None = None
    """When it ends by itself (Unix seconds): a certificate."""
    made_by: tuple[str, ...] = ()
    """Places where an earlier step may yet bring it about (see below). Empty: none does."""


def on_host(name: str | None) -> str:
    """The place that commands on a host change; None: the controller."""
    return f"host {name or 'controller'}"


def in_database(name: str) -> str:
    """The place that statements on a database change, and commands on its machine."""
    return f"database {name}"


def coming(name: str) -> str:
    """The place of a database that comes to be during the run (``later: true``)."""
    return f"coming database {name}"


ANY_STEP = "any step"
"""Where it is not known what brings it about, any step that acts may."""

EVERYWHERE = "everywhere"
"""What a person who is asked to do something may change."""
