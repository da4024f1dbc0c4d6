"""What every kind of the registry must keep to, whoever wrote it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from runbook.errors import Errored, NotFound, RunbookError
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.database import Database, QueryResult
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.observation import Observation
from runbook.model.plan import Plan
from runbook.model.ports import CertificateState, CommandResult
from runbook.planning import build_plan
from runbook.planning.preview import preview
from tests.kinds.fakes import FakeHost, FakeNet, FakeReads

KINDS = list(registry().values())

INVENTORY = """\
sites: {east: {}, west: {}}
hosts:
  east-web1: {address: 198.51.100.10, site: east, roles: [web, app]}
  east-files: {address: 198.51.100.20, site: east, roles: [files]}
  east-probe: {address: 198.51.100.90, site: east, roles: [probe]}
  west-app1: {address: 203.0.113.10, site: west, roles: [web, app]}
  west-db1: {address: 203.0.113.30, site: west, roles: [db]}
  east-db1: {address: 198.51.100.30, site: east, roles: [db]}
  west-files: {address: 203.0.113.20, site: west, roles: [files]}
  west-probe: {address: 203.0.113.90, site: west, roles: [probe]}
"""

RUNBOOK = """\
runbook: example
inventory: inventory.yml
zones:
  shop.example: {provider: rfc2136, servers: [ns1.shop.example]}
  cdn.example: {provider: route53}
databases:
  east: {engine: postgres, host: east-db1}
  west: {engine: postgres, host: west-db1}
  pool: {engine: pgbouncer, host: west-db1}
  east-mysql: {engine: mysql, host: east-db1}
  west-mysql: {engine: mysql, host: west-db1}
  east-redis: {engine: redis, host: east-db1}
  west-redis: {engine: redis, host: west-db1, replication: 203.0.113.30 6379}
steps:
"""

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def example(kind: type[Kind]) -> dict[str, Any]:
    """The step of the example that uses the kind; what it needs may stand around it."""
    steps: list[dict[str, Any]] = yaml.safe_load(kind.example)
    return next(step for step in reversed(steps) if step["kind"] == kind.name)


def instance(kind: type[Kind]) -> Kind:
    return kind.model_validate(example(kind).get("with", {}))


def planned(kind: type[Kind], folder: Path) -> Plan:
    (folder / "inventory.yml").write_text(INVENTORY)
    for path in instance(kind).local_files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("{{ database }} {{ pool }}\n")
    file = folder / "runbook.yml"
    file.write_text(RUNBOOK + kind.example)
    return build_plan(load_runbook(file, kinds=registry()), kinds=registry())


def test_its_name_is_the_one_it_is_found_by(kind: type[Kind]) -> None:
    assert registry()[kind.name] is kind


def test_it_is_documented(kind: type[Kind]) -> None:
    lines = (kind.__doc__ or "").splitlines()
    assert lines and lines[0].endswith(".") and len(lines[0]) <= 90, "a summary in one line"
    for name, field in kind.model_fields.items():
        assert field.description, f"{name} is not described"
        assert field.description[0].isupper() or field.description[0] == "`", name
    for name, meaning in kind.output_names.items():
        assert meaning, f"the output {name} is not described"


def test_its_example_loads_plans_and_can_be_shown(kind: type[Kind], tmp_path: Path) -> None:
    assert example(kind)["kind"] == kind.name
    plan = planned(kind, tmp_path)
    shown = preview(plan, registry(), {})
    assert example(kind)["id"] in shown
    assert all(isinstance(line, str) and line for line in instance(kind).preview())


def test_it_is_frozen_and_knows_its_keys(kind: type[Kind]) -> None:
    made = instance(kind)
    assert kind.model_config.get("frozen") and kind.model_config.get("extra") == "forbid"
    for name in list(kind.model_fields)[:1]:
        with pytest.raises(ValidationError):
            setattr(made, name, "changed")
    with pytest.raises(ValidationError, match="Extra inputs"):
        kind.model_validate({**example(kind).get("with", {}), "no_such_key": 1})


def test_no_key_hides_a_part_of_the_contract(kind: type[Kind]) -> None:
    assert not set(kind.model_fields) & set(dir(Kind))


def test_its_numbers_make_sense(kind: type[Kind]) -> None:
    assert kind.scope in {"host", "controller", "either"}
    assert kind.estimate > 0
    assert kind.estimate_undo is None or kind.estimate_undo >= 0
    if kind.poll is not None:
        assert 0 < kind.poll.every < kind.poll.timeout


def test_plan_verify_and_undo_are_pure(kind: type[Kind]) -> None:
    """They have no way to read, and the same observation gives the same answer."""
    made = instance(kind)
    seen = [Observation()]
    # What needs zones, or a real rsync, cannot be observed here: the empty observation is left.
    with contextlib.suppress(NotFound, Errored):
        seen.append(made.observe(FakeReads()))
    for before in seen:
        copy = before.model_copy(deep=True)
        for call in (made.plan, made.undo, lambda one: made.verify(one, one)):
            first, second = _answer(call, before), _answer(call, before)
            assert first == second
        assert before == copy, "an observation is never changed"


def _answer(call: Any, before: Observation) -> Any:
    try:
        return call(before)
    except (ValueError, KeyError, RunbookError) as fault:
        return (type(fault), str(fault))


class Chatting(FakeHost):
    """A host that answers everything, and nothing that was asked for."""

    said = CommandResult(exit_code=0, stdout="blah 1 2 3\n4 = 5\n", stderr="what?")
    commands: list[str]

    def query(self, command: str, **options: Any) -> CommandResult:
        self.commands = [*getattr(self, "commands", []), command]
        return self.said


class Deaf(FakeHost):
    def query(self, command: str, **options: Any) -> CommandResult:
        raise Errored("nobody is there")


class Babbling:
    """A database that answers every question with the same row."""

    def __init__(self, name: str, row: tuple[Any, ...]) -> None:
        engine: Any = next((one for one in ("mysql", "redis") if one in name), "postgres")
        self.database = Database(
            name=name, engine="pgbouncer" if name == "pool" else engine, host="east-db1", port=1,
        )
        self._row = row

    def query(self, statement: str, *, timeout: float = 30.0) -> QueryResult:
        assert not re.match(r"\s*(SET|ALTER|FLUSH|STOP|RESET|CHANGE|INSERT|UPDATE|CREATE|PAUSE)\b",
                            statement, re.IGNORECASE), statement
        return QueryResult(columns=tuple(map(str, range(len(self._row)))), rows=(self._row,))


class Strange(FakeReads):
    """A world in which everything is there, and nothing as it should be."""

    row: tuple[Any, ...] = ()

    def database(self, name: str) -> Any:
        return Babbling(name, self.row)

    def outputs(self, step: str) -> Mapping[str, Any]:
        return {}


def worlds() -> list[FakeReads]:
    host = Host(name="west-web1", address="203.0.113.10", user="deploy")
    net = FakeNet(certificates={"shop.example": CertificateState(error="expired", not_after=5.0)})
    empty, deaf, chatty = FakeReads(), FakeReads(here=Deaf(host)), Strange(Chatting(host), net)
    chatty.row = ("what", 2, None, "x", 5)
    silent = Strange(FakeHost(host))
    return [empty, deaf, chatty, silent]


_WRITES = re.compile(r"(?<![<&0-9-])>(?!&|/dev/null|=)|\b(rm|mv|mkdir|touch|chmod|chown|kill|"
                     r"install|restart|start|stop|tee|sed -i)\b")


@pytest.mark.parametrize("number", range(len(worlds())))
def test_its_needs_are_only_looked_at_and_never_raise(kind: type[Kind], number: int) -> None:
    made, reads = instance(kind), worlds()[number]
    seen = None
    with contextlib.suppress(RunbookError, ValueError, LookupError, TypeError, AttributeError):
        seen = made.observe(reads)
    if isinstance(reads.here, Chatting):
        reads.here.commands = []
    for one in (None, seen) if seen is not None else (None,):
        for need in made.needs(reads, one):
            assert need.what and need.seen and need.ok in {True, False, None}
    for command in getattr(reads.here, "commands", []):
        assert not _WRITES.search(re.sub(r"command -v \S+", "", command)), command
    names = [need.what for need in made.needs(reads, seen)]
    assert len(set(names)) == len(names), "two probes are compared by what a need is called"


def test_a_probe_tells_what_it_needs(kind: type[Kind]) -> None:
    """Where it looks for something, `runbook explain` says so."""
    if kind.needs is not Kind.needs:
        assert kind.needs.__doc__ and kind.needs.__doc__ != Kind.needs.__doc__
