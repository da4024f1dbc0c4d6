"""The plan: everything expanded, everything rendered that can be, frozen, with a digest.

A *node* is a step on a host, or a step on no host. Dependencies are between steps (a step starts
when every node of the steps before it has finished); batches and thresholds are over the nodes
of one step. The plan is pinned in the journal when a run starts: resume never reads the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runbook.model.database import Database
from runbook.model.dns import Zone, zone_name
from runbook.model.inventory import Inventory
from runbook.model.runbook import Budget, OnFailure, OutputSpec, Policy, Poll, Retry, Window
from runbook.model.secrets import SecretRef

PLAN_SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Frozen):
    """A check of a step's ``requires:`` or ``verify:`` list: a kind that never acts."""

    kind: str
    args: dict[str, Any]
    late: bool = False
    host: str | None = None
    poll: Poll | None = None


class Node(_Frozen):
    """A step on a host. ``args`` are rendered; where ``late`` is true some strings in them are
    templates over earlier outputs, rendered when the node starts with ``scope`` of its step."""

    id: str
    """``step`` or ``step@host``."""
    step: str
    host: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    late: bool = False
    requires: tuple[Check, ...] = ()
    verify: tuple[Check, ...] = ()
    undo: str | None = None
    """A command that takes the place of the undo the kind derives."""


class PlannedStep(_Frozen):
    id: str
    """Unique; steps of a playbook are scoped: ``freeze/stop-app``."""
    kind: str
    title: str = ""
    nodes: tuple[Node, ...] = ()
    after: tuple[str, ...] = ()
    when: str | None = None
    """A late condition (over outputs); None: always. Early ones were decided by planning."""
    skipped: str | None = None
    """Planning decided that the step is not run; why."""
    at: float | None = None
    """Starts at this moment (Unix seconds) at the earliest, and is late afterwards."""
    not_before: float | None = None
    retry: Retry = Retry()
    timeout: float | None = None
    poll: Poll | None = None
    batch: int | None = None
    """Nodes at a time; None: all."""
    ramp: tuple[int, ...] = ()
    """Sizes of the first batches, where they differ."""
    soak: float = 0.0
    """Seconds between two batches."""
    max_failures: int = 0
    run_as: str | None = None
    on_failure: OnFailure = "hold"
    severity: Literal["info", "warning", "critical"] = "critical"
    outputs: dict[str, OutputSpec] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    owner: str = ""
    estimate: float
    """Seconds, from ``estimate:`` or the kind's own default."""
    estimate_undo: float
    interrupt: bool = False
    """A decision to go back ends its running command; else the command is left to end."""
    point_of_no_return: bool = False
    irreversible: str | None = None
    rehearse: dict[str, Any] = Field(default_factory=dict)
    scope: dict[str, Any] = Field(default_factory=dict)
    """Variables for late rendering; empty where nothing is late."""
    source: str = ""
    """``file:line`` for people; the file's name only, never part of the digest."""


def output_key(step: str) -> str:
    """How an id is written after ``outputs.``: with ``_`` for ``-`` and ``/``."""
    return step.replace("-", "_").replace("/", "_")


def index_output_keys(ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Ids by their key. Two ids may share one."""
    found: dict[str, tuple[str, ...]] = {}
    for one in ids:
        key = output_key(one)
        found[key] = (*found.get(key, ()), one)
    return found


class Plan(_Frozen):
    schema_version: int = PLAN_SCHEMA
    runbook: str
    title: str = ""
    owner: str = ""
    window: Window | None = None
    policy: Policy = Policy()
    budgets: tuple[Budget, ...] = ()
    inventory: Inventory = Inventory()
    zones: tuple[Zone, ...] = ()
    databases: tuple[Database, ...] = ()
    secrets: tuple[SecretRef, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    """In an order in which every step stands after those it depends on."""
    playbook_outputs: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Of each called playbook, by its calling step: late templates over its steps' outputs."""
    playbook_scopes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Variables of those templates, by calling step; as ``PlannedStep.scope``."""
    directory: str = "."
    """Where relative local paths start."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of every local file the plan reads, by its path relative to ``directory``."""

    @cached_property
    def digest(self) -> str:
        """sha256 over everything that decides behaviour; hex."""
        left_out: Any = {"directory": True, "steps": {"__all__": {"source"}}}
        data = self.model_dump(mode="json", exclude=left_out)
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def dated(self) -> bool:
        """Whether it is known when it starts; else it starts whenever somebody starts it."""
        return self.window is not None or any(step.at is not None for step in self.steps)

    @cached_property
    def by_id(self) -> dict[str, PlannedStep]:
        return {step.id: step for step in self.steps}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return {node.id: node for step in self.steps for node in step.nodes}

    @cached_property
    def output_keys(self) -> dict[str, tuple[str, ...]]:
        """How ids of steps and playbook calls are written after ``outputs.`` → the ids."""
        return index_output_keys((*self.by_id, *self.playbook_outputs))

    @cached_property
    def dependents(self) -> dict[str, tuple[str, ...]]:
        """For each step the steps that come directly after it."""
        after: dict[str, list[str]] = {step.id: [] for step in self.steps}
        for step in self.steps:
            for earlier in step.after:
                after[earlier].append(step.id)
        return {key: tuple(value) for key, value in after.items()}

    def zone(self, name: str) -> Zone | None:
        wanted = zone_name(name)
        return next((zone for zone in self.zones if zone.called == wanted), None)
