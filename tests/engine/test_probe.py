"""The probe: what is said of needs, of what steps would do, of drift, and when it looks again."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from runbook.engine.actions_json import to_json
from runbook.engine.probe import (
    CacheHolds,
    Probed,
    ProbeReport,
    Rounds,
    drift_since,
    look_back,
    probe,
    recorded,
)
from runbook.engine.probe.acts import file_changes, needs_of, places
from runbook.engine.probe.caches import Caches
from runbook.engine.probe.drift import standing
from runbook.engine.probe.report import NeedState, judged
from runbook.errors import Errored, Refused
from runbook.journal import Rehearsal
from runbook.kinds.shell import Shell
from runbook.model.actions import AskOperator, ChangeRecordSet, ExecuteSql, PutFile, RunCommand
from runbook.model.actions import FileContent as Content
from runbook.model.database import Database
from runbook.model.dns import Change, RRset
from runbook.model.inventory import Host, Inventory
from runbook.model.kind import Kind
from runbook.model.need import EVERYWHERE, Need, in_database, on_host
from runbook.model.observation import Observation, Planned
from runbook.model.plan import Check, Node, Plan, PlannedStep
from runbook.model.ports import CommandResult, FileState, Reads, ServiceState
from runbook.model.runbook import Window
from runbook.model.secrets import SecretRef, mark
from tests.dns_lab import NEW, OLD, SECRET, dns_lab
from tests.engine.miniworld import Is, Log, ManualClock, Put, step
from tests.kinds.local_world import LocalWorld, local_world

HOSTS = (Host(name="h0", address="198.51.100.1"), Host(name="h1", address="198.51.100.2"))


@dataclass
class Machine:
    """A host: what it says to which question, else nothing."""

    host: Host | None
    values: dict[str, str]
    dead: bool = False

    def query(self, command: str, **options: Any) -> CommandResult:
        if self.dead:
            raise Errored(f"{self.host.name if self.host else 'here'} does not answer")
        if command.startswith("date"):
            return CommandResult(exit_code=0, stdout=self.values.get("date", "1000.0"))
        if command.startswith("sh -n"):
            bad = "broken" in command
            return CommandResult(exit_code=2 if bad else 0, stderr="line 2: oh" if bad else "")
        user = options.get("run_as")
        if user is not None and user not in self.values.get("users", ""):
            return CommandResult(exit_code=1, stderr=f"{user} is not allowed")
        return CommandResult(exit_code=0, stdout=self.values.get(command, ""))

    def file(self, path: str, *, run_as: str | None = None) -> FileState:
        return FileState(exists=False)

    def service(self, name: str, *, run_as: str | None = None) -> ServiceState:
        return ServiceState(exists=False)


@dataclass
class World:
    """Machines by name; None is the controller."""

    machines: dict[str | None, dict[str, str]]
    dead: set[str] = field(default_factory=set)
    secrets_fault: str = ""
    clock: ManualClock = field(default_factory=ManualClock)

    def host(self, name: str | None) -> Machine:
        host = next((one for one in HOSTS if one.name == name), None)
        return Machine(host, self.machines.setdefault(name, {}), name in self.dead)

    def prepare(self, hosts: object, run_as: object) -> None:
        if self.secrets_fault:
            raise Errored(self.secrets_fault)

    def redact(self, text: str) -> str:
        return text.replace("hunter2", "⟦secret⟧")


class Needy(Put):
    """Sets a key, and needs that another one says yes on its host."""

    name: ClassVar[str] = "needy"
    wants: str = "room"
    firm: bool = False

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        said = reads.here.query(self.wants).stdout
        host = reads.here.host
        made_by = () if self.firm else (on_host(host.name if host is not None else None),)
        return (Need(what=f"{self.wants} is there", ok={"yes": True, "": None}.get(said, False),
                     seen=said, hint="make it", fact=said, made_by=made_by),)


class Does(Log):
    """A command on the step's own host."""

    name: ClassVar[str] = "does"

    def observe(self, reads: Reads) -> Observation:
        host = reads.here.host
        return Observation(evidence={"host": host.name if host is not None else None})

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(RunCommand(host=before.evidence["host"], script=self.line),))


class Contained(Does):
    """The same, known to do nothing else."""

    name: ClassVar[str] = "contained"
    contained: ClassVar[bool] = True


class Wary(Put):
    """Refuses to act until another key of its database says so."""

    name: ClassVar[str] = "wary"

    def databases(self) -> tuple[str, ...]:
        return ("east",)

    def plan(self, before: Observation) -> Planned:
        raise Refused("east takes writes", hint="freeze it")


class Freeze(Kind):
    """Executes a statement on a database."""

    name: ClassVar[str] = "freeze"
    example: ClassVar[str] = ""
    contained: ClassVar[bool] = True

    def observe(self, reads: Reads) -> Observation:
        return Observation(state={"frozen": False})

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(ExecuteSql(database="east", statements=("FREEZE",)),))

    def verify(self, before: Observation, after: Observation) -> Any:
        return Is(key="x", value="").verify(Observation(), Observation(state={"value": ""}))

    def undo(self, before: Observation) -> tuple[()]:
        return ()


class Breaks(Put):
    """A kind of another package, whose needs raise."""

    name: ClassVar[str] = "breaks"

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        raise Errored("nobody is there")


KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (Put, Does, Is, Needy, Contained, Wary, Freeze, Breaks, Shell)
}


def made(*steps: PlannedStep, **more: Any) -> Plan:
    return Plan(runbook="move", steps=steps, inventory=Inventory(hosts=HOSTS), **more)


def looked(plan: Plan, world: World) -> ProbeReport:
    return probe(plan, cast(Any, world), KINDS)


def state_of(report: ProbeReport, node: str, what: str = "room is there") -> NeedState:
    (found,) = [one for one in report.nodes if one.node == node]
    return next(one.state for one in found.needs if one.what == what)


def needy(name: str, **more: Any) -> PlannedStep:
    return step(name, "needy", hosts=1, args={"key": "k", "value": "v", **more})


# -- needs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("says", "state", "ok"), [
    ("yes", "met", True), ("no", "unmet", False), ("", "unknown", True),
])
def test_a_need_that_is_not_met_is_a_problem(says: str, state: str, ok: bool) -> None:
    report = looked(made(needy("a")), World({"h0": {"room": says}}))
    assert (state_of(report, "a@h0"), report.ok) == (state, ok)
    assert report.needs_counts["unmet"] == (state == "unmet")
    (told,) = [one for one in report.nodes[0].needs if one.what == "room is there"]
    assert told.hint == ("" if state == "met" else "make it")


@pytest.mark.parametrize(("before", "state"), [
    (step("first", "does", hosts=1, args={"line": "mkdir room"}), "skipped"),
    (step("first", "does", hosts=1, args={"line": "x"}, skipped="left out"), "unmet"),
    (step("first", "contained", hosts=1, args={"line": "x"}), "unmet"),
    (step("first", "does", args={"line": "mkdir room"}), "unmet"),
    (step("first", "does", args={"line": "ssh root@198.51.100.1: mkdir room"}), "skipped"),
    (step("first", "does", args={"line": "scp room 'h0:'"}), "skipped"),
    (step("first", "does", args={"line": "scp room h01:"}), "unmet"),
    (step("first", "is", hosts=1, args={"key": "a", "value": ""}), "unmet"),
])
def test_only_what_may_bring_it_about_makes_a_need_wait(
    before: PlannedStep, state: str
) -> None:
    """A command on its host, or one that names it; not what is known to do something else."""
    report = looked(made(before, needy("a")), World({"h0": {"room": "no"}}))
    assert state_of(report, "a@h0") == state
    assert report.ok is (state == "skipped")


def test_what_no_step_brings_about_never_waits() -> None:
    first = step("first", "does", hosts=1, args={"line": "anything"})
    report = looked(made(first, needy("a", firm=True)), World({"h0": {"room": "no"}}))
    assert state_of(report, "a@h0") == "unmet"


def test_a_kind_that_raises_makes_only_its_needs_unknown() -> None:
    report = looked(made(step("a", "breaks", args={"key": "k", "value": "v"})), World({}))
    assert state_of(report, "a", "what breaks needs can be seen") == "unknown"
    assert report.ok and report.nodes[0].how == "read"


@pytest.mark.parametrize(("command", "undo", "unmet"), [
    ("true", None, []), ("echo broken (", None, ["sh finds no error in the command"]),
    ("true", "echo broken (", ["sh finds no error in the undo command"]),
])
def test_commands_are_read_by_the_hosts_shell(
    command: str, undo: str | None, unmet: list[str]
) -> None:
    node = Node(id="a", step="a", args={"command": command, "creates": "done"}, undo=undo)
    plan = made(PlannedStep(id="a", kind="shell", nodes=(node,), estimate=1, estimate_undo=1))
    report = looked(plan, World({None: {}}))
    assert [one.what for one in report.nodes[0].unmet] == unmet


def test_requires_are_asked_and_wait_for_earlier_steps() -> None:
    check = Check(kind="is", args={"key": "db", "value": "up"})
    node = Node(id="a", step="a", args={"key": "k", "value": "v"}, requires=(check,))
    plan_of = PlannedStep(id="a", kind="put", nodes=(node,), estimate=1, estimate_undo=1)
    what = "requires is: key: db, value: up"
    for first, values, state in (
        ((), {"db": "up"}, "met"), ((), {"db": "down"}, "unmet"),
        ((step("first", "put", args={"key": "x", "value": "y"}),), {"db": "down"}, "skipped"),
    ):
        report = looked(made(*first, plan_of), World({None: values}))
        assert state_of(report, "a", what) == state


def test_checks_of_a_step_have_needs_of_their_own_and_secrets_are_taken_out() -> None:
    check = Check(kind="needy", args={"key": "k", "value": "v", "wants": "cert"})
    node = Node(id="a", step="a", args={"key": "k", "value": "v"}, verify=(check, check))
    one = PlannedStep(id="a", kind="put", nodes=(node,), estimate=1, estimate_undo=1)
    report = looked(made(one), World({None: {"cert": "hunter2"}}))
    needs = [need for need in report.nodes[0].needs if need.what == "cert is there"]
    assert [(need.state, need.seen, need.fact) for need in needs] == [
        ("unmet", "⟦secret⟧", "⟦secret⟧")]


DAY = 86400.0


@pytest.mark.parametrize(("ends", "state"), [
    (None, "met"), (500.0, "unmet"), (1500.0, "warning"), (1000.0 + 13 * DAY, "warning"),
    (1000.0 + 15 * DAY, "met"),
])
def test_a_certificate_has_to_outlast_the_window(ends: float | None, state: str) -> None:
    need = Need(what="certificate", ok=True, seen="fine", ends=ends)
    assert judged(need, frozenset(), until=1000.0).state == state


def test_the_window_is_what_it_has_to_outlast() -> None:
    class Ends(Put):
        name: ClassVar[str] = "ends"

        def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
            return (Need(what="room is there", ok=True, ends=50_000.0),)

    one = step("a", "ends", args={"key": "k", "value": "v"})
    for start, state in ((1000.0, "warning"), (60_000.0, "unmet")):
        window = Window(start=start, duration=3600.0, timezone="UTC")
        report = probe(
            made(one, window=window), cast(Any, World({})), {**KINDS, "ends": Ends}
        )
        assert state_of(report, "a") == state


# -- steps -----------------------------------------------------------------------------------


def test_what_earlier_steps_make_possible_is_no_alarm() -> None:
    wary = step("promote", "wary", args={"key": "k", "value": "v"})
    (alone,) = looked(made(wary), World({})).nodes
    assert alone.problem and alone.how == "unknown"
    report = looked(made(step("freeze", "freeze"), wary), World({}))
    assert report.ok and report.nodes[1].how == "skipped"
    assert "would act only after earlier steps; now: east takes writes (freeze it)" in (
        report.nodes[1].says)


def test_declared_outputs_feed_later_steps_and_count_as_simulated() -> None:
    first = step("first", "put", args={"key": "a", "value": "b"}, rehearse={"port": "8080"})
    node = Node(id="second", step="second", late=True,
                args={"key": "p", "value": "{{ outputs.first.port }}"})
    second = PlannedStep(id="second", kind="put", nodes=(node,), estimate=1, estimate_undo=1)
    report = looked(made(first, second), World({}))
    assert [one.how for one in report.nodes] == ["read", "simulated"]
    assert report.nodes[1].would[0]["script"] == "set p=8080"
    assert report.fidelity == 0.5
    without = looked(made(first.model_copy(update={"rehearse": {}}), second), World({}))
    assert [one.how for one in without.nodes] == ["read", "skipped"]


def test_a_step_that_planning_left_out_is_not_looked_at() -> None:
    report = looked(made(step("a", "breaks", args={"key": "k", "value": "v"}, skipped="when")),
                    World({}))
    assert (report.nodes[0].says, report.nodes[0].needs) == ("left out: when", ())


def test_where_actions_act() -> None:
    east = Database(name="east", engine="postgres", host="h1", port=5432)
    plan = made(databases=(east,))

    def of(*actions: Any) -> frozenset[str]:
        return places(actions, plan)

    assert of(RunCommand(host=None, script="true")) == {on_host(None)}
    assert of(RunCommand(host="h1", script="x")) == {on_host("h1"), in_database("east")}
    assert of(ExecuteSql(database="east", statements=("x",))) == {in_database("east")}
    assert of(PutFile(host="h1", path="/x")) == frozenset()
    assert of(AskOperator(question="?")) == {EVERYWHERE}


# -- hosts, secrets ---------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "state"), [
    ("1000.2", "met"), ("1004", "warning"), ("996", "warning"), ("1400", "unmet"),
    ("nonsense", "unknown"),
])
def test_the_clock_of_every_host_is_looked_at_once(there: str, state: str) -> None:
    world = World({"h0": {"date": there, "room": "yes"}})
    report = looked(made(needy("a"), needy("b")), world)
    (host,) = report.hosts
    assert [(one.what, one.state) for one in host.needs] == [
        ("its clock is the controller's", state)]
    assert report.ok is (state != "unmet")


def test_a_user_whom_nobody_may_become_is_told_of_the_host() -> None:
    for users, state in (("deploy", "met"), ("", "unmet")):
        world = World({"h0": {"users": users, "room": "yes"}})
        plan = made(step("a", "put", hosts=1, run_as="deploy", args={"key": "k", "value": "v"}))
        (host,) = looked(plan, world).hosts
        assert (host.needs[0].what, host.needs[0].state) == ("commands run as deploy", state)


def test_a_dead_host_is_a_problem_of_its_steps_alone() -> None:
    both = step("a", "put", hosts=2, args={"key": "k", "value": "v"})
    report = looked(made(both), World({}, dead={"h1"}))
    assert [(one.node, one.how) for one in report.nodes] == [("a@h0", "read"), ("a@h1", "unknown")]
    assert {one.name: one.answers for one in report.hosts} == {"h0": True, "h1": False}
    assert not report.ok


def test_secrets_that_cannot_be_read_are_told() -> None:
    plan = made(needy("a"), secrets=(SecretRef(name="db", source="env", argument="DB"),))
    world = World({"h0": {"room": "yes"}})
    assert looked(plan, world).ok
    world.secrets_fault = "DB is not set"
    report = looked(plan, world)
    assert not report.ok
    assert report.secrets is not None and report.secrets.seen == "DB is not set"


# -- what would change ------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Any:
    with local_world(tmp_path) as world:
        yield world


def changed(world: LocalWorld, path: Path, text: str, **more: Any) -> tuple[str, ...]:
    action = PutFile(host=None, path=str(path), content=Content(text=text), **more)
    return tuple(line.removeprefix(f"{path}: ")
                 for line in file_changes(action, cast(Reads, world)))


def test_lines_of_a_file_are_told_where_everybody_may_read_them(
    local: LocalWorld, tmp_path: Path
) -> None:
    path = tmp_path / "app.conf"
    assert changed(local, path, "a\n", mode=0o600) == ("not there → a new file, 2 bytes, "
                                                       "mode 0600",)
    path.write_text("site = east\npool = 5\nlast = 'x'\n")
    path.chmod(0o644)
    new = "site = west\npool = 5\nlast = 'x'\n-- more\n"
    assert changed(local, path, new) == ("-site = east", "+site = west", "+-- more")
    path.chmod(0o640)
    assert changed(local, path, new) == ("1 lines go, 2 come",)
    assert changed(local, path, new, mode=0o644)[0] == "mode 0640 → 0644"
    assert path.read_text().startswith("site = east"), "nothing was written"


def test_a_content_with_a_secret_is_not_compared(local: LocalWorld, tmp_path: Path) -> None:
    path = tmp_path / "app.conf"
    path.write_text("password = old\n")
    (line,) = changed(local, path, f"password = {mark('db')}\n")
    assert "a secret stands in it" in line and "old" not in line


def test_where_a_file_cannot_be_written_is_told(local: LocalWorld, tmp_path: Path) -> None:
    def needs(path: Path, **more: Any) -> list[Need]:
        action = PutFile(host=None, path=str(path), content=Content(text="x" * 10), **more)
        return list(needs_of((action,), cast(Reads, local)))

    assert all(one.ok for one in needs(tmp_path / "new")), needs(tmp_path / "new")
    missing = needs(tmp_path / "no" / "such" / "x")
    assert (missing[0].ok, missing[0].seen) == (False, "there is no such folder")
    nobody = needs(tmp_path / "new", owner="no-such-user")
    assert (nobody[1].ok, nobody[1].seen) == (False, "there is no user no-such-user")
    nobody = needs(tmp_path / "new", group="no-such-group")
    assert (nobody[1].ok, nobody[1].seen) == (False, "there is no group no-such-group")
    source = PutFile(host=None, path=str(tmp_path / "x"), content=Content(local="lost"))
    assert [one.ok for one in needs_of((source,), _Local(local))][-1] is False


class _Local:
    """The local world, with the way the engine reads files of the runbook's folder."""

    def __init__(self, world: LocalWorld) -> None:
        self.on = world.on

    def read_local(self, path: str) -> bytes:
        raise Errored(f"the local file {path} cannot be read")


@pytest.mark.parametrize(("secret", "ok", "said"), [
    (None, True, "would let"), (f"shop-key:hmac-sha256:{SECRET[4:]}", False, "BADSIG"),
])
def test_the_right_to_a_zone_is_asked_of_the_zone(
    secret: str | None, ok: bool, said: str
) -> None:
    with dns_lab() as lab:
        if secret is not None:
            lab.transport = lab.with_secret(secret)
        before = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))
        action = ChangeRecordSet(zone="shop.example.", changes=(
            Change(before=before, after=before.model_copy(update={"rdatas": (NEW,)})),))
        stood = lab.primary.snapshot()
        (need,) = needs_of((action,), cast(Reads, lab))
        assert need.ok is ok and said in need.seen
        assert lab.primary.snapshot() == stood


# -- caches ----------------------------------------------------------------------------------


def test_what_resolvers_still_hold_is_seen_and_nothing_comes_into_them_by_that() -> None:
    """Of a set that somebody has asked for, and was lowered since; and of one nobody did."""
    with dns_lab(resolver=True) as lab:
        zone = lab.zone.model_copy(update={"resolvers": ("192.0.2.1", "192.0.2.99")})
        shop = RRset(name="shop.shop.example.", rtype="A", ttl=1800, rdatas=(OLD,))
        mail = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))
        world = cast(Any, SimpleNamespace(dns=lab.transport))

        def held(*sets: RRset) -> list[CacheHolds]:
            caches = Caches(Plan(runbook="x", zones=(zone,)), world)
            action = ChangeRecordSet(zone="shop.example.", changes=tuple(
                Change(before=one, after=None) for one in sets))
            node = Probed(node="flip", step="flip", how="read", would=(to_json(action),))
            caches.see(node)
            caches.see(node)
            return list(caches.told())

        mine, dead = held(shop, mail)
        assert (mine.asked, mine.held, mine.says) == (2, 0, "")
        assert dead.says == "it does not tell what it holds (UNREACHABLE)"
        assert held(shop)[0].held == 0, "it was asked, and still holds nothing"
        lab.transport.resolve("192.0.2.1", "shop.shop.example.", "A")
        lab.clock.move(600)
        mine = held(shop, mail)[0]
        assert (mine.held, mine.longest, mine.left, mine.beyond) == (
            1, "shop.shop.example. A", 1200, ())
        assert held(shop.with_ttl(60))[0].beyond == ("shop.shop.example. A",)


def test_without_resolvers_or_changes_nobody_is_asked() -> None:
    caches = Caches(made(), cast(Any, World({})))
    caches.see(Probed(node="a", step="a", how="read"))
    assert caches.told() == ()


# -- drift -----------------------------------------------------------------------------------


def kept(report: ProbeReport, *, ts: float = 500.0, runbook: str = "move") -> Rehearsal:
    return Rehearsal(
        plan_digest=report.digest, level="probe", run_id="", ts=ts, who="ada", ok=report.ok,
        data={"runbook": runbook, "seen": recorded(report)},
    )


def between(plan: Plan, then: World, now: World) -> list[tuple[str, str, str, str]]:
    drift = drift_since(kept(looked(plan, then)), looked(plan, now))
    assert drift is not None
    return [(one.node or one.host, one.what, one.then, one.now) for one in drift.changed]


def test_what_stands_otherwise_is_told_from_then_to_now() -> None:
    plan = made(needy("a"))
    same = World({"h0": {"k": "x", "room": "yes"}})
    assert between(plan, same, same) == []
    assert between(plan, same, World({"h0": {"k": "y", "room": "yes"}})) == [
        ("a@h0", "value", "x", "y")]
    assert between(plan, same, World({"h0": {"k": "x", "room": "no"}})) == [
        ("a@h0", "room is there", "met", "unmet: no")]
    assert between(plan, same, World({"h0": {"k": "x", "room": "yes", "date": "1009"}})) == [
        ("h0", "its clock is the controller's", "met", "warning: 9s ahead")]
    gone = between(plan, same, World({}, dead={"h0"}))
    assert ("h0", "it", "answers", "does not answer") in gone
    assert ("a@h0", "looked at", "read", "unknown") in gone


def test_a_fact_that_is_another_is_drift_though_the_need_is_met() -> None:
    class Versioned(Put):
        name: ClassVar[str] = "versioned"

        def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
            return (Need(what="rsync", ok=True, seen=reads.here.query("free").stdout,
                         fact=reads.here.query("version").stdout),)

    plan = made(step("a", "versioned", args={"key": "k", "value": "v"}))
    kinds = {**KINDS, "versioned": Versioned}

    def report(**values: str) -> ProbeReport:
        return probe(plan, cast(Any, World({None: values})), kinds)

    drift = drift_since(kept(report(version="3.2", free="10G")), report(version="3.4", free="9G"))
    assert drift is not None
    assert [(one.what, one.then, one.now) for one in drift.changed] == [("rsync", "3.2", "3.4")]


def test_the_last_probe_of_the_runbook_is_the_one_before() -> None:
    plan, other = made(needy("a")), made(needy("a"), needy("b"))
    report = looked(plan, World({"h0": {"room": "yes"}}))
    assert look_back(plan, []) is None and drift_since(None, report) is None
    strange = kept(report, runbook="another")
    older = kept(looked(other, World({})), ts=400.0)
    assert look_back(plan, [strange, older]) is older
    drift = drift_since(older, report)
    assert drift is not None and not drift.same_plan and drift.since == 400.0
    mine = kept(report)
    assert look_back(plan, [older, mine, kept(report, ts=1.0)]) is mine
    without = Rehearsal(plan.digest, "probe", "", 900.0, "ada", True, {"runbook": "move"})
    assert look_back(plan, [without, mine]) is mine, "of a version that kept nothing"


def plain(text: str) -> str:
    return text


def test_states_are_kept_in_few_words_and_no_secret() -> None:
    state = {
        "exists": True, "sha256": "ab" * 32, "owner": None, "records": {"www A": {"ttl": 60,
        "rdatas": ["192.0.2.1", "192.0.2.2"]}}, "stdout": "x" * 500, "word": "hunter2",
        "items": [{"item": "disk", "ok": False}],
    }
    words = standing(state, lambda text: text.replace("hunter2", "***"))
    assert words == {
        "exists": "yes", "sha256": "abababababab…", "owner": "nothing", "word": "***",
        "records www A ttl": "60", "records www A rdatas": "192.0.2.1, 192.0.2.2",
        "stdout": words["stdout"], "items 1 item": "disk", "items 1 ok": "no",
    }
    assert len(words["stdout"]) < 80 and "500 characters" in words["stdout"]
    assert standing({}, plain) == {"state": "nothing"}


@pytest.mark.parametrize("many", [3, 400])
def test_states_that_differ_give_other_words(many: int) -> None:
    one = {f"key{number}": "x" * 100 for number in range(many)}
    other = one | {f"key{many - 1}": "x" * 99 + "y"}
    assert standing(one, plain) == standing(dict(reversed(one.items())), plain)
    assert standing(one, plain) != standing(other, plain)
    assert len(standing(one, plain)) <= 40


# -- again and again ---------------------------------------------------------------------------


def rounds(work: float = 0.0, **more: Any) -> list[float]:
    """When each begins; a round takes ``work`` seconds."""
    clock = ManualClock(0.0)
    begun = []
    for number in Rounds(clock=clock, wake=more.pop("wake", threading.Event()), **more):
        begun.append(clock.now())
        assert number == len(begun) < 50
        clock.wait(clock.now() + work)
    return begun


@pytest.mark.parametrize(("more", "begun"), [
    ({}, [0]), ({"every": 60.0, "times": 3}, [0, 60, 120]), ({"every": 60.0, "times": 1}, [0]),
    ({"every": 60.0, "until": 150.0}, [0, 60, 120]), ({"every": 60.0, "until": 120.0}, [0, 60]),
    ({"every": 60.0, "times": 3, "work": 70.0}, [0, 120, 240]),
    ({"every": 60.0, "times": 3, "work": 10.0}, [0, 60, 120]),
])
def test_when_it_looks_again(more: Mapping[str, Any], begun: list[float]) -> None:
    assert rounds(**more) == begun


def test_a_wake_ends_the_rounds() -> None:
    wake = threading.Event()
    wake.set()
    assert rounds(every=60.0, wake=wake) == [0]

