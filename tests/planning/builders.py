"""Small runbooks, built in Python, and three kinds to fill them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from runbook.errors import InvalidInput, Position
from runbook.model.actions import Action
from runbook.model.inventory import Host, Inventory
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.plan import Plan
from runbook.model.ports import Reads
from runbook.model.runbook import Parameter, Playbook, Runbook, SourceMap, Step, ValuePath, Window
from runbook.model.secrets import SecretRef
from runbook.planning import build_plan

FILE = Path("move.yml")


class Inert(Kind):
    """What planning needs of a kind: its fields. Planning observes and does nothing."""

    def observe(self, reads: Reads) -> Observation:
        raise AssertionError("planning must not look at the world")

    def plan(self, before: Observation) -> Planned:
        raise AssertionError("planning must not decide what to do")

    def verify(self, before: Observation, after: Observation) -> Verdict:
        raise AssertionError("planning must not verify")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        raise AssertionError("planning must not undo")


class Run(Inert):
    """Runs something."""

    name: ClassVar[str] = "run"
    example: ClassVar[str] = "id: a\nkind: run\nwith: {command: 'true'}\n"
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    estimate: ClassVar[float] = 10.0
    output_names: ClassVar[dict[str, str]] = {"text": "what it printed"}
    command: str
    times: int = 1
    file: str | None = None

    def local_files(self) -> tuple[str, ...]:
        return (self.file,) if self.file else ()

    def preview(self) -> tuple[str, ...]:
        return (f"$ {self.command}",)


class OnHost(Inert):
    """Works on hosts alone."""

    name: ClassVar[str] = "on.host"
    example: ClassVar[str] = ""
    scope: ClassVar[Literal["host", "controller", "either"]] = "host"
    path: str


class Wait(Inert):
    """Waits for what another step did."""

    name: ClassVar[str] = "wait"
    example: ClassVar[str] = ""
    estimate: ClassVar[float] = 60.0
    estimate_undo: ClassVar[float | None] = 0.0
    of: str
    note: str = ""

    def references(self) -> tuple[str, ...]:
        return (self.of,)


class Look(Inert):
    """Looks at something."""

    name: ClassVar[str] = "http.check"
    example: ClassVar[str] = ""
    check: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    url: str
    status: int = 200


class Holds(Inert):
    """Looks whether something holds."""

    name: ClassVar[str] = "assert"
    example: ClassVar[str] = ""
    check: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    that: bool | str | None = None
    command: str | None = None


KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Run, OnHost, Wait, Look, Holds)}

INVENTORY = Inventory(
    hosts=(
        Host(name="db1", address="10.0.0.1", site="east", roles=("db",), vars={"port": 5432}),
        Host(name="db2", address="10.0.1.1", site="west", roles=("db",)),
        Host(name="web1", address="10.0.0.2", site="east", roles=("web",), groups=("edge",)),
        Host(name="web2", address="10.0.0.3", site="east", roles=("web",)),
        Host(name="web3", address="10.0.1.2", site="west", roles=("web",)),
    )
)

WINDOW = Window(
    start=1252731600.0, duration=7200.0, timezone="America/New_York", announce_in=("UTC",)
)
"""2009-09-12 01:00 in New York, two hours."""


class _Everywhere(SourceMap):
    """A map that gives every path a place of its own, so that a test can tell which was meant."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, {}, {})
        self.asked: dict[int, ValuePath] = {}

    def at(self, path: ValuePath) -> Position:
        line = 1 + len(self.asked)
        for known, one in self.asked.items():
            if one == path:
                line = known
        self.asked[line] = path
        return Position(self.file, line, 1)

    def key_at(self, path: ValuePath) -> Position:
        return self.at(path)


class Book:
    """Builds a runbook step by step."""

    def __init__(self, **fields: Any) -> None:
        self.source = _Everywhere(FILE)
        self.fields: dict[str, Any] = {"inventory": INVENTORY, "directory": Path(), **fields}
        self.steps: list[Step] = []
        self.playbooks: dict[str, Playbook] = {}

    def step(self, id: str, kind: str | None = "run", /, **fields: Any) -> Book:
        self.steps.append(self._step(("steps", len(self.steps)), id, kind, fields))
        return self

    def _step(self, path: ValuePath, id: str, kind: str | None, fields: dict[str, Any]) -> Step:
        if "playbook" in fields:
            kind = None
        args = fields.pop("args", {"command": "true"} if kind == "run" else {})
        return Step(id=id, kind=kind, args=args, source=self.source, path=path, **fields)

    def playbook(
        self, name: str, steps: list[tuple[str, str | None, dict[str, Any]]],
        parameters: dict[str, Any] | None = None, outputs: dict[str, str] | None = None,
    ) -> Book:
        """``parameters``: name → default, ``...`` for a required one."""
        self.playbooks[name] = Playbook(
            name=name, source=self.source, outputs=outputs or {},
            parameters=tuple(
                Parameter(name=key, required=value is ..., default=None if value is ... else value)
                for key, value in (parameters or {}).items()
            ),
            steps=tuple(
                self._step(("playbooks", name, "steps", index), id, kind, dict(fields))
                for index, (id, kind, fields) in enumerate(steps)
            ),
        )
        return self

    def runbook(self) -> Runbook:
        return Runbook(
            id="move", source=self.source, steps=tuple(self.steps), playbooks=self.playbooks,
            **self.fields,
        )

    def plan(self) -> Plan:
        return build_plan(self.runbook(), kinds=KINDS)

    def problems(self) -> list[tuple[str, ValuePath, str]]:
        """(message, path it points at, hint) of everything wrong with it."""
        try:
            self.plan()
        except InvalidInput as fault:
            return [
                (d.message, self.source.asked[d.position.line] if d.position else (), d.hint)
                for d in fault.diagnostics
            ]
        return []


SECRETS = (SecretRef(name="tsig", source="env", argument="TSIG"),)
