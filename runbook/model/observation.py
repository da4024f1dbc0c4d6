"""What a kind saw, what it concluded, and what it cannot take back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runbook.model.actions import Action


class Observation(BaseModel):
    """The part of the world a step is about, read without changing it. JSON values only.

    ``state`` is what *is* (comparable: equal states mean an equal world, as far as this step is
    concerned; drift and restoration are judged on it). ``evidence`` is how it was seen: timings,
    raw answers. ``unknown`` names what could not be read; a probe counts it against fidelity.

    ``progress``: a look that takes long is cut into many, and this is what they have found so
    far. It is journaled, and the next look is given it (``Reads.progress``), also after a restart.
    Empty once there is nothing left to look at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: dict[str, Any] = Field(default_factory=dict)
    evidence: dict[str, Any] = Field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    progress: dict[str, Any] = Field(default_factory=dict)
    at: float = 0.0


class Planned(BaseModel):
    """The actions that lead from the observed state to the wanted one.

    No actions means there is nothing to do, and ``reason`` says why (``already done: …``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    actions: tuple[Action, ...] = ()
    reason: str = ""


class Verdict(BaseModel):
    """The postcondition, with what was seen. ``retry`` false: waiting longer cannot help;
    ``final``: nor can another try, whatever the step's ``retry:`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    seen: str
    outputs: dict[str, Any] = Field(default_factory=dict)
    retry: bool = True
    final: bool = False


class Irreversible(BaseModel):
    """A step that cannot be undone, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str
    missing: bool = False
    """It could have a way back: the runbook gives none, and does not say that there is none."""


class Loss(BaseModel):
    """What taking a step back would lose for good.

    ``what`` says it in words, with the numbers. ``rows`` is how many rows (keys, for Redis) are
    known to be lost; None where nobody can count them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    rows: int | None = None


class Pause(BaseModel):
    """How long a step waits, where its keys tell: for a simulation, which asks nothing.

    One of: ``seconds`` from its start; ``until`` a moment (Unix seconds); ``seconds`` after the
    step ``of`` has ended, and the greatest TTL that step replaces on top.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = 0.0
    until: float | None = None
    of: str | None = None


class Heartbeat(BaseModel):
    """A sign of life that a controller gives while it drives a run, from the moment a step begins
    to act until it is undone or the run ends. What the command prints is told to people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str | None
    command: str
    """A POSIX-sh command that does no harm at any time."""
    every: float
    """Seconds of real time, at most, between two."""
    run_as: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    """Secrets are marks in it."""
