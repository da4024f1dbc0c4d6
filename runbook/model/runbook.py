"""A runbook as loaded: frozen, checked for shape, not yet expanded or rendered.

Scalars that hold ``{{ … }}`` are still templates here; planning renders them. ``source`` tells
where each value stands in its file, so that every later error can point at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runbook.errors import Position
from runbook.model.database import Database
from runbook.model.dns import Zone
from runbook.model.inventory import Inventory
from runbook.model.secrets import SecretRef

ValuePath = tuple[str | int, ...]
OnFailure = Literal["rollback", "hold", "ask", "continue"]


class SourceMap:
    """Positions of values by their path, e.g. ``("steps", 3, "with", "path")``."""

    __slots__ = ("_keys", "_values", "file")

    def __init__(
        self, file: Path, values: dict[ValuePath, Position], keys: dict[ValuePath, Position]
    ) -> None:
        self.file = file
        self._values = values
        self._keys = keys

    def at(self, path: ValuePath) -> Position:
        """Position of the value, or of its nearest enclosing value."""
        while path and path not in self._values:
            path = path[:-1]
        return self._values.get(path) or Position(self.file, 1, 1)

    def key_at(self, path: ValuePath) -> Position:
        """Position of the mapping key that leads to the value."""
        return self._keys.get(path) or self.at(path)

    def rearranged(self, places: Mapping[ValuePath, ValuePath | None]) -> SourceMap:
        """The positions of a document whose parts were put elsewhere: what stands at each path of
        ``places`` is taken from the other, and for None there is nothing. What no path begins with
        stands where it stood."""
        return SourceMap(
            self.file, _rearranged(self._values, places), _rearranged(self._keys, places)
        )


def _rearranged(
    found: Mapping[ValuePath, Position], places: Mapping[ValuePath, ValuePath | None]
) -> dict[ValuePath, Position]:
    taken = {old: new for new, old in places.items() if old is not None}
    made: dict[ValuePath, Position] = {}
    for path, position in found.items():
        starts = [path[:length] for length in range(len(path) + 1)]
        if not any(start in places for start in starts):
            made[path] = position
        for start in starts:
            if start in taken:
                made[(*taken[start], *path[len(start):])] = position
    return made


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Window(_Frozen):
    """The announced maintenance window. ``start`` is in Unix seconds."""

    start: float
    duration: float
    timezone: str
    announce_in: tuple[str, ...] = ()

    @property
    def end(self) -> float:
        return self.start + self.duration


RehearsalLevel = Literal["plan", "probe", "simulate", "sandbox", "staging"]

REAL_LEVELS = frozenset({"live", "staging"})
"""Levels of a run whose machines and time are real."""


class RehearsalPolicy(_Frozen):
    """``required``: one level, or several of which each is demanded."""

    required: RehearsalLevel | tuple[RehearsalLevel, ...] | None = None
    max_age: float | None = None
    same_digest: bool = True
    """Only a rehearsal of this very plan counts; else one of any version of the runbook."""


class WindowPolicy(_Frozen):
    """What keeps the way back inside the window."""

    on_breach: Literal["rollback", "hold", "warn"] | None = None
    """When the way back has to begin now to end inside the window; None: ``Policy.on_breach``."""
    safety: float | None = None
    """Seconds to be back before the window ends; None: 30 s and a tenth of the back-out time."""
    enforce: Literal["live", "always", "never"] = "live"
    """Where steps are refused that would make it too late for the way back, and where the way
    back begins in time; elsewhere both are only told."""


class Policy(_Frozen):
    on_failure: OnFailure = "hold"
    on_breach: Literal["rollback", "hold", "warn"] = "warn"
    """What a breached budget, or an overrun window, triggers."""
    rehearsal: RehearsalPolicy = RehearsalPolicy()
    max_parallel: int = 32
    outside_window: Literal["refuse", "warn"] = "warn"
    window: WindowPolicy = WindowPolicy()


class Probe(_Frozen):
    """A client outside, that asks again and again: a name resolved anew, a connection opened anew,
    one request at a time."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    status: tuple[int, ...] = ()
    """Good answers; empty: 200 to 299."""
    contains: str | None = None
    every: float = 1.0
    timeout: float = 2.0
    host: str | None = None
    """Where it asks from; None: the controller."""
    verify_tls: bool = True

    @property
    def writes(self) -> bool:
        return self.method not in {"GET", "HEAD"}


class Budget(_Frozen):
    """Something measured, with a limit: an interval of the journal, like from ``freeze.start`` to
    ``thaw.end``, or with ``probe`` how long a client outside was not served. A probe asks from the
    one edge to the other; without them from the window's start to the run's end."""

    name: str
    from_step: str = ""
    from_edge: Literal["start", "end"] = "start"
    to_step: str = ""
    to_edge: Literal["start", "end"] = "end"
    limit: float
    on_breach: Literal["rollback", "hold", "warn"] | None = None
    probe: Probe | None = None
    counts: Literal["total", "longest"] = "total"
    """Of several outages: all of them, or the longest."""


class Retry(_Frozen):
    """``times`` more attempts after a failure, ``wait`` seconds apart, growing by ``backoff``."""

    times: int = 0
    wait: float = 1.0
    backoff: float = 1.0


class Poll(_Frozen):
    """Ask again ``every`` seconds until it holds ``stable`` times in a row, for ``timeout``."""

    every: float = 1.0
    timeout: float = 60.0
    stable: int = 1


class OutputSpec(_Frozen):
    """How a named, typed output is taken from a command's standard output."""

    take: Literal["stdout", "json", "regex", "exit_code"] = "stdout"
    pattern: str = ""
    """A dotted path (json) or an expression with one group (regex)."""
    type: Literal["str", "int", "float", "bool", "json"] = "str"


class Step(_Frozen):
    """One step as written. Template-bearing fields are raw; ``path`` locates it in ``source``."""

    id: str
    kind: str | None = None
    playbook: str | None = None
    title: str = ""
    args: dict[str, Any] = Field(default_factory=dict)
    """The keys under ``with:``."""
    hosts: str | list[str] | None = None
    after: tuple[str, ...] | None = None
    """None: after the step written before it."""
    foreach: Any = None
    when: str | bool | None = None
    at: str | None = None
    not_before: str | None = None
    retry: Retry = Retry()
    timeout: float | None = None
    poll: Poll | None = None
    batch: tuple[int | str, ...] = ()
    """Nodes at a time: numbers or percentages, of one batch after the other, the last of them for
    all that follow; empty: all at once."""
    soak: float = 0.0
    """Seconds between two batches."""
    max_failures: int | str = 0
    """A number of nodes, or a percentage."""
    run_as: str | None = None
    requires: tuple[dict[str, Any], ...] = ()
    verify: tuple[dict[str, Any], ...] = ()
    undo: str | dict[str, Any] | Literal[False] | None = None
    """A command, ``{irreversible: why}``, or None for what the kind derives."""
    on_failure: OnFailure | None = None
    severity: Literal["info", "warning", "critical"] = "critical"
    outputs: dict[str, OutputSpec] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    owner: str = ""
    estimate: float | None = None
    estimate_undo: float | None = None
    interrupt: bool | None = None
    """Whether a decision to go back ends its running command; None: as the kind says."""
    point_of_no_return: bool = False
    rehearse: dict[str, Any] = Field(default_factory=dict)
    """Outputs to pretend in a probe, where the step is not really done."""
    expect_hosts: int | None = None
    """Asserted number of hosts the ``hosts:`` expression selects."""
    source: SourceMap = Field(exclude=True, repr=False)
    path: ValuePath = ()

    def position(self, *more: str | int) -> Position:
        return self.source.at((*self.path, *more))


class Parameter(_Frozen):
    name: str
    required: bool = True
    default: Any = None
    help: str = ""


class Playbook(_Frozen):
    """A reusable sequence of steps. Its outputs are templates over its own steps' outputs."""

    name: str
    title: str = ""
    parameters: tuple[Parameter, ...] = ()
    steps: tuple[Step, ...] = ()
    outputs: dict[str, str] = Field(default_factory=dict)
    source: SourceMap = Field(exclude=True, repr=False)


Pair = tuple[str, str]


class Invert(_Frozen):
    """Names that change places, in pairs, where the direction of a move is inverted."""

    vars: tuple[Pair, ...] = ()
    hosts: tuple[Pair, ...] = ()
    sites: tuple[Pair, ...] = ()
    groups: tuple[Pair, ...] = ()
    databases: tuple[Pair, ...] = ()


class Staging(_Frozen):
    """What a runbook allows where it is rehearsed in staging. The sections that are different
    there are read when it is loaded for that, in place of production's."""

    invert: Invert | None = None
    faults: bool = False
    """Whether steps may be made to fail there."""


class Moved(_Frozen):
    """How the dates of a runbook are taken where it is rehearsed in real time."""

    by: float
    """Seconds that are added to every date."""
    waited_for: bool
    """False: a step with a date starts as soon as those before it have ended."""


class Runbook(_Frozen):
    id: str
    title: str = ""
    owner: str = ""
    window: Window | None = None
    policy: Policy = Policy()
    budgets: tuple[Budget, ...] = ()
    inventory: Inventory = Inventory()
    vars: dict[str, Any] = Field(default_factory=dict)
    """Rendered already; they may use each other and the inventory, never a step's output."""
    secrets: tuple[SecretRef, ...] = ()
    zones: tuple[Zone, ...] = ()
    databases: tuple[Database, ...] = ()
    steps: tuple[Step, ...] = ()
    playbooks: dict[str, Playbook] = Field(default_factory=dict)
    """Every playbook that is called, by the name it is called by."""
    staging: Staging | None = None
    """None: it has no such section."""
    staged: bool = False
    """It is as it is rehearsed in staging: with the sections of ``staging:``."""
    moved: Moved | None = None
    directory: Path
    """Where relative local paths start: the folder of the runbook file."""
    source: SourceMap = Field(exclude=True, repr=False)
