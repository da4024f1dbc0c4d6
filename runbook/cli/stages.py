"""Where a campaign plays: in embedded worlds, one a run, or again and again in staging."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runbook.cli import wiring
from runbook.cli.controllers import TOUCHED
from runbook.cli.embedded import Embedded, embedded, keep_judgement
from runbook.engine import standing
from runbook.journal import Store
from runbook.model.plan import Plan
from runbook.sandbox import fingerprint
from runbook.sandbox.fingerprint import Difference

HURRY = 0.1
"""Real seconds that no wait of a plan outlasts in a sandbox: a campaign waits hundreds of times."""

Snapshot = Any
"""How a world stands; only its stages know how to compare two."""


class Stage(Protocol):
    """One world, for one run."""

    endpoints_file: str
    watch: Path | None
    """The folder of a world that can be looked at after every step."""

    def now(self) -> float: ...

    def snapshot(self) -> Snapshot:
        """How the world stands. Raises Errored."""

    def lost(self, run_id: str) -> int | None:
        """Acknowledged writes that are gone, when all is over; None: nobody counted."""


class Stages(Protocol):
    """All worlds of one campaign."""

    level: str
    one: bool
    """They are one and the same world: runs go one after the other, and no further one may begin
    where it is not as it was."""

    def open(self) -> AbstractContextManager[Stage]: ...

    def pinned(self, run_id: str) -> None:
        """A run is pinned that will be played in one of them."""

    def differences(self, before: Snapshot, after: Snapshot) -> Sequence[Difference]: ...

    def touched(self, run_id: str) -> dict[str, list[str]]:
        """By step the things that it changes, as the watched run ``run_id`` showed it."""


class Sandboxes:
    """Embedded worlds; ``traffic``: customers at work in each."""

    level = "sandbox"
    one = False

    def __init__(
        self, plan: Plan, store: Store, config: Path, *, traffic: bool = True
    ) -> None:
        self._plan = plan
        self._store = store
        self._config = config
        self._traffic = traffic

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """As the protocol says. Raises InvalidInput, Refused, Errored."""
        with embedded(
            self._plan, self._config, traffic=self._traffic, longest_wait=HURRY
        ) as inside:
            yield _Sandbox(inside, self._store)

    def pinned(self, run_id: str) -> None:
        """Nobody else has to know."""

    def differences(self, before: Snapshot, after: Snapshot) -> Sequence[Difference]:
        return fingerprint.differences(before, after)

    def touched(self, run_id: str) -> dict[str, list[str]]:
        path = self._store.run_directory(run_id) / TOUCHED
        if not path.exists():
            return {}
        found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
        return found


class _Sandbox:
    def __init__(self, inside: Embedded, store: Store) -> None:
        self._inside = inside
        self._store = store
        self.endpoints_file = str(inside.endpoints_file)
        self.watch: Path | None = inside.world.directory

    def now(self) -> float:
        return self._inside.world.clock.now()

    def snapshot(self) -> Snapshot:
        return self._inside.world.fingerprint()

    def lost(self, run_id: str) -> int | None:
        if self._inside.judge is None:
            return None
        judgement = self._inside.judge.stop()
        keep_judgement(self._store, run_id, judgement)
        return judgement.writes_lost


@dataclass(slots=True)
class OneStaging:
    """Staging, and how it stands as the plan's own steps see it. ``look``: one probe of them.
    ``keep``: what has to be kept beside each run."""

    plan: Plan
    look: Callable[[], standing.Standing]
    keep: Callable[[str], None]
    level: str = "staging"
    one: bool = True
    endpoints_file: str = ""
    watch: Path | None = None

    @contextmanager
    def open(self) -> Iterator[Stage]:
        yield self

    def pinned(self, run_id: str) -> None:
        self.keep(run_id)

    def now(self) -> float:
        return wiring.real_clock().now()

    def snapshot(self) -> Snapshot:
        return self.look()

    def lost(self, run_id: str) -> int | None:
        return None

    def differences(self, before: Snapshot, after: Snapshot) -> Sequence[Difference]:
        return standing.differences(before, after)

    def touched(self, run_id: str) -> dict[str, list[str]]:
        """What a step looks at is what it changes."""
        return {step.id: [node.id for node in step.nodes] for step in self.plan.steps}
