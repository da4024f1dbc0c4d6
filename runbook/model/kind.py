"""The contract of a kind: what a step of that kind does.

A kind is one frozen pydantic class in one file. Its fields are the keys under ``with:``; an
unknown key is an error with its position. It has four methods and no ``apply``: *observe* reads
through a port that cannot write, the other three are pure. Retry, timeout, polling, batching and
conditions are wrappers around any kind and never appear inside one.

Third parties add kinds through the entry point group ``runbook.kinds``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from runbook.model.actions import Action
from runbook.model.dns import Change, RRset
from runbook.model.need import Need
from runbook.model.observation import (
    Heartbeat,
    Irreversible,
    Loss,
    Observation,
    Pause,
    Planned,
    Verdict,
)
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class Kind(BaseModel):
    """Base of every kind. The docstring of a subclass is its documentation: the first line is
    the summary, the rest is shown by ``runbook explain``; ``Field(description=…)`` documents
    each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)
    """``{{ port }}`` keeps its type, so a number may arrive where a text is wanted."""

    name: ClassVar[str]
    example: ClassVar[str]
    """YAML of one step that uses the kind; a test loads and plans it."""
    scope: ClassVar[Literal["host", "controller", "either"]] = "controller"
    """Whether a step of this kind needs ``hosts:``, refuses it, or takes both."""
    check: ClassVar[bool] = False
    """True: it never acts. Its whole work is observe and verify; usable in ``verify:``."""
    idempotent: ClassVar[bool] = False
    """Safe to perform once more when the outcome of its actions is unknown."""
    poll: ClassVar[Poll | None] = None
    """How verification is repeated where the step does not say; None: once."""
    estimate: ClassVar[float] = 1.0
    """Seconds, where the step has no ``estimate:``."""
    estimate_undo: ClassVar[float | None] = None
    """Seconds its undo takes; None: as long as the doing. Waits and gates have nothing to undo."""
    by_keys: ClassVar[bool] = False
    """How long it takes is up to its keys, or to people (a command, a wait): what other steps of
    the kind took says nothing about this one."""
    interrupt: ClassVar[bool] = False
    """A decision to go back may end its command half-way: what it leaves, its undo puts back."""
    output_names: ClassVar[dict[str, str]] = {}
    """Outputs it gives, each with its meaning."""

    may_lose: ClassVar[bool] = False
    """Whether :meth:`loss` may find one."""

    settled_in_plan: ClassVar[bool] = True
    """Whether a plan without the step that :meth:`settled_by` asks for is refused."""

    asks: ClassVar[bool] = False
    """Its time is that of people who answer."""
    back_after: ClassVar[tuple[str, ...]] = ()
    """Kinds of steps whose undo its own undo waits after, see :meth:`back_pause`; without one of
    them behind it there is nothing to wait for."""

    contained: ClassVar[bool] = False
    """Its actions change what it observes and nothing else: nothing that another step needs
    (:meth:`needs`) comes about by it. A command may do anything, and is not."""

    wants_heartbeat: ClassVar[bool] = False
    """Whether :meth:`heartbeat` may give one."""

    @abstractmethod
    def observe(self, reads: Reads) -> Observation:
        """Read the part of the world this step is about. Never writes. Raises Errored."""

    @abstractmethod
    def plan(self, before: Observation) -> Planned:
        """Pure. The actions that lead to the wanted state; none: already done, and why."""

    @abstractmethod
    def verify(self, before: Observation, after: Observation) -> Verdict:
        """Pure. Whether the postcondition holds in ``after``, with what was seen."""

    @abstractmethod
    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Pure. The actions that put back what was observed before acting."""

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        """Pure. What the undo does, given what is there as the way back comes to the step. Only a
        kind that waits on the way back needs more than :meth:`undo`. Raises Errored while it
        cannot be told yet; it is looked at again, as long as ``poll`` says."""
        return self.undo(before)

    def on_the_way(self, before: Observation) -> tuple[Mapping[str, Any], ...]:
        """Pure. Every state of :class:`Observation` that its actions lead through and to, where
        they are known: a step that was stopped between two of them is then held against drift as
        a finished one is. Empty: not known."""
        return ()

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        """What taking the step back would lose for good, as the world stands now; None: nothing.

        Reads, and never writes. It is asked before anything of a rollback is undone and once
        more right before the step's own undo, which is carried out only where the loss was
        accepted by the step's name. Raises Errored, which counts as a loss that is not known."""
        return None

    def heartbeat(self, before: Observation) -> Heartbeat | None:
        """Pure. The sign of life that has to be given for as long as the step stands."""
        return None

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """What it will rely on when it acts, beyond what ``observe`` would fail without: rights,
        room, versions, neighbours. ``seen``: what ``observe`` has just given; None: it could not.

        Reads, and never writes. Asked by a probe alone, which may come weeks before the run; so
        it says of each need which earlier steps may bring it about (``made_by``). It never raises
        for what cannot be asked: that need is unknown.

        A docstring of a kind's own is shown by ``runbook explain``."""
        return ()

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        """What its actions would change now, for a person: a line each, *what: before → after*.

        Reads, and never writes; raises Errored. Asked by a probe alone, where there are actions.
        Empty: the actions say enough, as changes of DNS do."""
        return ()

    def local_files(self) -> tuple[str, ...]:
        """Files of the runbook's folder that decide behaviour; the plan's digest covers them."""
        return ()

    def references(self) -> tuple[str, ...]:
        """Ids of earlier steps whose outputs ``observe`` reads; planning checks they exist."""
        return ()

    def weighted_zones(self) -> tuple[str, ...]:
        """Names of the zones whose weights it changes; planning checks that there are some."""
        return ()

    def settled_by(self) -> str:
        """The kind of step that has to end what this one begins, and names it (``references``): a
        state that spans the steps between. Planning refuses a plan that may never end it. Empty:
        it begins nothing of the sort."""
        return ""

    def zones(self) -> tuple[str, ...]:
        """Names of the zones it works with; planning checks that they are declared."""
        return ()

    def named_hosts(self) -> tuple[str, ...]:
        """Names of the hosts that its keys name, beside the one it is on; planning checks that
        they are in the inventory."""
        return ()

    def databases(self) -> tuple[str, ...]:
        """Names of the databases it works with; planning checks that they are declared."""
        return ()

    def estimated(self) -> float:
        """Seconds one node with these keys takes, where they tell."""
        return self.estimate

    def estimated_undo(self) -> float | None:
        """Seconds the undo of one node takes, where the keys tell; None: as the doing."""
        return self.estimate_undo

    def pause(self) -> Pause | None:
        """Pure. How long it waits, where waiting is all it does and the keys tell."""
        return None

    def back_pause(self, given: Sequence[RRset] | None) -> float:
        """Pure. How long its undo waits after the undo of a step of ``back_after`` by which caches
        were given these answers; None: it is not known which."""
        return 0.0

    def preview(self) -> tuple[str, ...]:
        """Lines that tell a person, before anything is asked of the world, what it will do:
        the command, the path, the question. Pure. By default: every key that was given."""
        given = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return tuple(
            f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in given.items()
        )

    def not_in(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[str, ...]:
        """What its keys speak of and the zones (by absolute name) do not hold as given: a line
        each. Pure. A zone that is not among them is not known."""
        return ()

    def differences(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[Change, ...]:
        """Changes of DNS it would make, were the zones (by absolute name) as given. Pure."""
        return ()
