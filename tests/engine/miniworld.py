"""A world in memory that outlives its controllers, and controllers that can be killed anywhere.

The transports' own promises (a key takes effect at most once; ``resolve`` tells the truth) are
proven against real hosts in ``tests/transports``; here they are assumed, so that thousands of
crashes of the engine fit into seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from runbook.engine.begin import begin, take_up
from runbook.engine.context import Faults, Observer, RunContext
from runbook.engine.driver import Driven, drive
from runbook.errors import Errored
from runbook.journal import Draft, Lease, Store
from runbook.model.actions import Action, ActionKey, ActionResult, RunCommand
from runbook.model.events import Event
from runbook.model.folding import fold
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.ports import CommandResult, DnsReads, NetReads, Progress, Reads, Resolution
from runbook.model.state import RunPhase


class Killed(BaseException):
    """Stands for SIGKILL: nothing of this controller may act or write any more."""


class Trigger:
    """Kills at the n-th occasion; afterwards every occasion of that controller kills."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.count += 1
            if self.at is not None and self.count >= self.at:
                raise Killed


class ManualClock:
    """Time that passes only when somebody waits for it."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._now

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        if wake is not None and wake.is_set():
            return False
        with self._lock:
            self._now = max(self._now, until)
        return True

    def steady(self) -> float:
        return self.now()

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        return self.wait(self.now() + seconds, wake)


class Outside:
    """The part of the outside that survives controllers."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.effects: list[tuple[str, str]] = []
        """(key, script) of everything that took effect, in order."""
        self.finished: dict[str, ActionResult] = {}
        self.unreachable: set[str] = set()
        self.broken: set[str] = set()
        """Scripts that the world refuses."""
        self.lock = threading.Lock()

    def run(self, key: str, script: str) -> ActionResult:
        with self.lock:
            if key in self.finished:
                return self.finished[key]
            ok = script not in self.broken
            if ok:
                name, _, value = script.removeprefix("set ").partition("=")
                if script.startswith("set "):
                    self.values[name] = value
                else:
                    self.values["log"] = self.values.get("log", "") + script + ";"
                self.effects.append((key, script))
            result = ActionResult(ok=ok, detail=f"{script}: {'done' if ok else 'refused'}",
                                  data={"exit_code": 0 if ok else 1, "stdout": script})
            self.finished[key] = result
            return result


class MiniHost:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    @property
    def host(self) -> Host | None:
        return None

    def query(self, command: str, **_: object) -> CommandResult:
        if command in self._outside.unreachable:
            raise Errored(f"cannot ask {command}")
        with self._outside.lock:
            return CommandResult(exit_code=0, stdout=self._outside.values.get(command, ""))


class MiniWorld:
    """World and Actuator of one controller over a surviving outside."""

    dns = cast(DnsReads, None)
    net = cast(NetReads, None)

    def __init__(self, outside: Outside, clock: ManualClock, trigger: Trigger) -> None:
        self.outside = outside
        self.clock = clock
        self._trigger = trigger

    @property
    def actuator(self) -> MiniWorld:
        return self

    def host(self, name: str | None) -> Any:
        return MiniHost(self.outside)

    def prepare(self, hosts: object, run_as: object) -> None:
        """Nothing to open."""

    def prepare_databases(self) -> None:
        """None either."""

    def redact(self, text: str) -> str:
        return text

    def tidy(self, *, keep_saved: bool) -> None:
        """Nothing to tidy."""

    def close(self) -> None:
        """Nothing to close."""

    def perform(self, action: Action, key: ActionKey, progress: Progress) -> ActionResult:
        assert isinstance(action, RunCommand)
        self._trigger()
        if action.script in self.outside.unreachable:
            raise Errored(f"cannot reach the host for {action.script}")
        result = self.outside.run(str(key), action.script)
        self._trigger()
        return result

    def resolve(self, action: Action, key: ActionKey) -> Resolution:
        found = self.outside.finished.get(str(key))
        if found is not None:
            return Resolution(outcome="done", result=found)
        return Resolution(outcome="not_done")


class Put(Kind):
    """Set a key of the mini world."""

    name: ClassVar[str] = "put"
    example: ClassVar[str] = ""
    key: str
    value: str

    def observe(self, reads: Reads) -> Observation:
        return Observation(state={"value": reads.here.query(self.key).stdout})

    def plan(self, before: Observation) -> Planned:
        if before.state["value"] == self.value:
            return Planned(reason="already so")
        return Planned(actions=(RunCommand(host=None, script=f"set {self.key}={self.value}"),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        value = after.state["value"]
        return Verdict(ok=value == self.value, seen=f"{self.key} is {value}",
                       outputs={"old": before.state["value"]})

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return (RunCommand(host=None, script=f"set {self.key}={before.state['value']}"),)


class Log(Kind):
    """Append to the log of the mini world: not idempotent, and nothing can be observed."""

    name: ClassVar[str] = "log"
    example: ClassVar[str] = ""
    line: str
    back: bool = True

    def observe(self, reads: Reads) -> Observation:
        return Observation()

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(RunCommand(host=None, script=self.line),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen="")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if not self.back:
            return Irreversible(why="a line written is written")
        return (RunCommand(host=None, script=f"un-{self.line}"),)


class Is(Kind):
    """Check a key of the mini world."""

    name: ClassVar[str] = "is"
    example: ClassVar[str] = ""
    check: ClassVar[bool] = True
    key: str
    value: str

    def observe(self, reads: Reads) -> Observation:
        return Observation(state={"value": reads.here.query(self.key).stdout})

    def plan(self, before: Observation) -> Planned:
        return Planned(reason="a check")

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=after.state["value"] == self.value, seen=str(after.state["value"]))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()


KINDS: dict[str, type[Kind]] = {"put": Put, "log": Log, "is": Is}


def step(
    name: str, kind: str, *, after: Sequence[str] = (), hosts: int = 0, args: Any = None,
    **more: Any,
) -> PlannedStep:
    """A step with one node, or ``hosts`` nodes whose args have ``{n}`` filled in."""
    args = args or {}
    nodes = (
        (Node(id=name, step=name, args=args),) if not hosts else tuple(
            Node(id=f"{name}@h{n}", step=name, host=f"h{n}",
                 args={k: v.format(n=n) if isinstance(v, str) else v for k, v in args.items()})
            for n in range(hosts))
    )
    more.setdefault("on_failure", "rollback")
    return PlannedStep(id=name, kind=kind, nodes=nodes, after=tuple(after), estimate=1.0,
                       estimate_undo=1.0, **more)


class DyingLease:
    """A lease whose controller can be killed before and after any commit."""

    def __init__(self, lease: Lease, trigger: Trigger) -> None:
        self._lease = lease
        self._trigger = trigger
        self.store = lease.store
        self.run_id = lease.run_id
        self.epoch = lease.epoch

    @property
    def on_commit(self) -> Callable[[Event], None] | None:
        return self._lease.on_commit

    @on_commit.setter
    def on_commit(self, value: Callable[[Event], None]) -> None:
        self._lease.on_commit = value

    @property
    def check(self) -> Callable[[Sequence[tuple[str, str, str]]], None] | None:
        return self._lease.check

    @check.setter
    def check(self, value: Callable[[Sequence[tuple[str, str, str]]], None]) -> None:
        self._lease.check = value

    def append(
        self, drafts: Sequence[Draft], *, ts: float, taken: Sequence[int] = ()
    ) -> list[Event]:
        self._trigger()
        events = self._lease.append(drafts, ts=ts, taken=taken)
        self._trigger()
        return events

    def release(self) -> None:
        self._lease.release()


class Lab:
    """One run of a plan over an outside, by as many controllers as it takes."""

    def __init__(
        self, directory: Path, plan: Plan, values: Mapping[str, str] | None = None
    ) -> None:
        self.store = Store(directory)
        self.plan = plan
        self.outside = Outside(values or {})
        self.clock = ManualClock()
        self.run_id = ""
        self.ctx: RunContext | None = None

    def drive(
        self, kill_at: int | None = None, *, faults: Faults | None = None,
        observer: Observer | None = None, back: bool = False,
        setup: Callable[[RunContext], None] | None = None, level: str = "live",
        kinds: Mapping[str, type[Kind]] = KINDS, **more: Any,
    ) -> Driven | None:
        """One controller's life; None when it was killed."""
        trigger = Trigger(kill_at)
        fresh = not self.run_id
        if fresh:
            self.run_id = self.store.create(self.plan, who="ada", now=self.clock.now())
        lease = cast(Lease, DyingLease(self.store.acquire(self.run_id, "ada"), trigger))
        world = cast(Any, MiniWorld(self.outside, self.clock, trigger))
        shared: dict[str, Any] = {"kinds": kinds, "observer": observer or Observer(),
                                  "real": self.clock, "who": "ada", "faults": faults} | more
        try:
            if fresh:
                self.ctx = begin(lease, self.plan, world, level=level, **shared)
            elif not self.store.events(self.run_id):
                # Killed before its first event: nothing had begun.
                self.ctx = begin(lease, self.plan, world, level=level, **shared)
            else:
                self.ctx = take_up(self.store, lease, world, back=back, **shared)
            if setup is not None:
                setup(self.ctx)
            return drive(self.ctx)
        except Killed:
            return None
        finally:
            self.last_count = trigger.count
            lease.release()

    @property
    def ended(self) -> bool:
        return self.state.phase in {RunPhase.DONE, RunPhase.ROLLED_BACK}

    @property
    def state(self) -> Any:
        plan, events = self.store.load(self.run_id)
        return fold(self.run_id, plan, events)
