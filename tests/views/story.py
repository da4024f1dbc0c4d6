"""Runs that never happened, for looking at: plans and hash-chained events, built by hand."""

from __future__ import annotations

from typing import Any

from runbook.model.events import GENESIS, Event, canonical, event_hash
from runbook.model.folding import fold
from runbook.model.inventory import Host, Inventory
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runbook import Budget, Window
from runbook.model.runstate import RunState

START = 1252731600.0
"""2009-09-12 01:00:00 in New York (EDT), the start of the window."""

HOSTS = ("web1.east", "web2.east", "web3.east")


def step(
    name: str, *after: str, kind: str = "shell", hosts: tuple[str, ...] = (),
    estimate: float = 30.0, undo: float = 20.0, **more: Any,
) -> PlannedStep:
    nodes = tuple(Node(id=f"{name}@{h}", step=name, host=h) for h in hosts)
    return PlannedStep(
        id=name, kind=kind, after=after, nodes=nodes or (Node(id=name, step=name),),
        estimate=estimate, estimate_undo=undo, **more,
    )


def shop_plan(**changes: Any) -> Plan:
    """Nine steps: two branches between the freeze and the flip, then the thaw."""
    steps = (
        step("lower-ttl", kind="dns.ttl", title="Lower the TTLs", estimate=5, undo=5),
        step("go", "lower-ttl", kind="gate.approve", title="Go / no-go", estimate=120, undo=0),
        step("freeze/app", "go", hosts=HOSTS, title="Make the shop read-only", estimate=20,
             undo=15),
        step("freeze/db", "freeze/app", kind="postgres.freeze", title="Freeze the database",
             estimate=10, undo=5),
        step("files", "freeze/app", title="Copy the last uploads", estimate=90, undo=0),
        step("promote", "freeze/db", kind="postgres.promote", title="Promote the west database",
             estimate=15, undo=45, point_of_no_return=True),
        step("flip", "promote", "files", kind="dns.flip", title="Point the shop to the west",
             estimate=20, undo=20),
        step("thaw", "flip", hosts=("web1.west", "web2.west"), title="Accept writes again",
             estimate=10, undo=10),
        step("check", "thaw", kind="http.check", title="The shop answers", estimate=30, undo=0),
    )
    given: dict[str, Any] = {
        "runbook": "shop-2009",
        "title": "Move the shop from east to west",
        "owner": "ops@shop.example",
        "window": Window(start=START, duration=7200.0, timezone="America/New_York"),
        "budgets": (
            Budget(name="write_outage", from_step="freeze", from_edge="start", to_step="thaw",
                   to_edge="end", limit=600.0),
        ),
        "inventory": Inventory(hosts=tuple(Host(name=h, address=h) for h in HOSTS)),
        "steps": steps,
    }
    return Plan(**{**given, **changes})


class Story:
    """Appends events as the engine would, a clock in its hand."""

    def __init__(
        self, plan: Plan, run_id: str = "shop-2009-k3v9xq", level: str = "live",
        start: float = START + 60,
    ) -> None:
        self.plan = plan
        self.run_id = run_id
        self.now = start
        self.events: list[Event] = []
        self.add("run_started", who="anna", controller="ctl1:4711", level=level)

    @property
    def state(self) -> RunState:
        return fold(self.run_id, self.plan, self.events)

    def wait(self, seconds: float) -> Story:
        self.now += seconds
        return self

    def add(
        self, kind: str, node: str = "", attempt: int = 0, op: str = "", **data: Any
    ) -> Story:
        prev = self.events[-1].hash if self.events else GENESIS
        text = canonical(data)
        digest = event_hash(prev, self.run_id, 1, self.now, node, op, attempt, kind, text)
        self.events.append(
            Event(len(self.events) + 1, self.run_id, 1, self.now, node, op, attempt, kind, data,
                  prev, digest)
        )
        return self

    def intent(self, node: str, attempt: int = 1, op: str = "do") -> Story:
        actions = [{"action": "run_command", "host": node.partition("@")[2] or None}]
        return self.add("intent", node, attempt, op, before={"state": {"on": True}},
                        actions=actions)

    def finish(self, node: str, seen: str = "as wanted", attempt: int = 1) -> Story:
        safe = node.replace("/", "_")
        results = [{"ok": True, "detail": "exit 0", "data": {
            "exit_code": 0, "stdout": "ok\n", "stderr": "",
            "stdout_path": f"runs/{self.run_id}/{safe}.{attempt}.out",
            "stderr_path": f"runs/{self.run_id}/{safe}.{attempt}.err"}}]
        self.add("done", node, attempt, "do", results=results)
        return self.add("verified", node, attempt, "do", seen=seen, after={"state": {}},
                        before={"state": {}}, reason="", outputs={})

    def do(self, node: str, seconds: float, seen: str = "as wanted") -> Story:
        return self.intent(node).wait(seconds).finish(node, seen)

    def undo(self, node: str, seconds: float, how: str = "as it was before") -> Story:
        self.intent(node, op="undo").wait(seconds)
        self.add("done", node, 1, "undo", results=[])
        return self.add("restored", node, 1, "undo", how=how)


def gate_open() -> Story:
    story = Story(shop_plan()).do("lower-ttl", 4.0, "14 record sets at TTL 60")
    story.intent("go").add("ask", "go", 1, "do", question="Is everybody ready for the freeze?",
                           roles=["lead", "dba"], quorum=2, evidence=False, seq=4)
    story.wait(45).add("decision", "go", verb="approve", who="anna", role="lead",
                       why="all monitors are green")
    return story


def to_the_flip() -> Story:
    """Everything up to the promotion is done, with a retry on one web server."""
    story = gate_open().wait(30)
    story.add("decision", "go", verb="approve", who="dimitri", role="dba", why="")
    story.add("answered", "go", 1, "do", detail="approved by anna (lead), dimitri (dba)")
    story.finish("go", "approved by anna (lead), dimitri (dba)")
    for host in HOSTS:
        story.intent(f"freeze/app@{host}")
    story.wait(6).finish(f"freeze/app@{HOSTS[0]}").finish(f"freeze/app@{HOSTS[1]}")
    third = f"freeze/app@{HOSTS[2]}"
    story.wait(4).add("failed", third, 1, "do", error="exit 1: nginx: configuration test failed")
    story.wait(2).intent(third, attempt=2).wait(8).finish(third, attempt=2)
    story.intent("files").do("freeze/db", 7.0, "0 writers, LSN 16/B374D848")
    story.do("promote", 11.5, "west is primary")
    story.wait(60).finish("files", "1,204 files, 0 differ")
    return story


def done() -> Story:
    story = to_the_flip().do("flip", 14.0, "6 name servers give 203.0.113.10")
    story.intent("thaw@web1.west").intent("thaw@web2.west").wait(5)
    story.finish("thaw@web1.west").finish("thaw@web2.west")
    story.add("note", "", text="info: moved, watching")
    story.do("check", 25.0, "200 OK, 10 of 10 samples")
    return story.add("run_finished", phase="done", why="")


def rolled_back() -> Story:
    """The flip fails, a person is asked, and everything goes back."""
    story = to_the_flip().intent("flip").wait(9)
    story.add("failed", "flip", 1, "do", error="ns2.shop.example still gives 198.51.100.10")
    story.add("held", why="flip failed")
    story.wait(40).add("resumed", who="boris", controller="ctl2:99")
    story.add("decision", verb="rollback", who="boris", role="lead", why="not worth the risk")
    story.add("rollback_started", why="not worth the risk", who="boris", to=None)
    story.undo("flip", 12).undo("promote", 40, "east is primary again").undo("freeze/db", 3)
    for host in HOSTS:
        story.undo(f"freeze/app@{host}", 2)
    story.add("restored", "files", 0, "undo", how="copies do no harm")
    story.add("restored", "go", 0, "undo", how="nothing to undo")
    story.undo("lower-ttl", 4)
    return story.add("run_finished", phase="rolled_back", why="flip failed")


def not_restored() -> Story:
    story = to_the_flip().intent("flip").wait(9)
    story.add("failed", "flip", 1, "do", error="ns2.shop.example still gives 198.51.100.10")
    story.add("rollback_started", why="on_failure: rollback", who="", to=None)
    story.undo("flip", 12)
    story.add("irreversible", "promote", 0, "undo", why="the west has accepted 12 writes")
    story.intent("freeze/db", op="undo").wait(30)
    story.add("rollback_failed", "freeze/db", 1, "undo", error="exit 2: connection refused")
    return story.add("run_finished", phase="not_restored", why="flip failed")


def in_doubt() -> Story:
    story = to_the_flip().intent("flip").wait(9)
    story.add("in_doubt", "flip", 1, "do", index=0,
              error="the outcome of action 1 is unknown: the connection was cut")
    return story.add("held", why="flip is in doubt")


def over_budget() -> Story:
    story = to_the_flip().intent("flip").wait(540)
    story.add("breach", what="write_outage", limit=600.0, measured=638.5, action="warn")
    return story


def two_days() -> Story:
    """TTLs are lowered two days before the window; then a long wait, then the work."""
    steps = tuple(
        planned.model_copy(update={"at": START}) if planned.id == "go" else planned
        for planned in shop_plan().steps
    )
    story = Story(shop_plan(steps=steps), level="sandbox", start=START - 48 * 3600)
    story.do("lower-ttl", 4.0, "14 record sets at TTL 60").wait(48 * 3600 - 4)
    story.intent("go").wait(90).finish("go", "approved by anna")
    for host in HOSTS:
        story.intent(f"freeze/app@{host}")
    story.wait(30)
    for host in HOSTS:
        story.finish(f"freeze/app@{host}")
    story.do("freeze/db", 200).do("files", 300)
    return story


def many(count: int = 200, verified: int = 120, running: int = 3) -> Story:
    """A long chain of steps in groups of ten that run side by side."""
    steps = []
    for i in range(count):
        group = i // 10
        after = tuple(f"step-{j:03d}" for j in range((group - 1) * 10, group * 10)) if group else ()
        steps.append(step(f"step-{i:03d}", *after, hosts=(f"host{i % 40:02d}",), estimate=5,
                          title=f"Move service number {i}"))
    story = Story(shop_plan(steps=tuple(steps), budgets=(), title="Two hundred services"))
    names = [s.nodes[0].id for s in steps]
    for name in names[:verified]:
        story.do(name, 1.5)
    for name in names[verified : verified + running]:
        story.intent(name).wait(2)
    return story
