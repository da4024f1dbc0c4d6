"""``service``: what it asks systemctl to do, and that undo restores both properties."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from runbook.kinds.service import Service
from runbook.model.actions import RunCommand
from runbook.model.inventory import Host
from runbook.model.observation import Irreversible, Observation
from runbook.model.ports import ServiceState
from tests.kinds.fakes import FakeHost, FakeReads


def world(state: ServiceState) -> FakeReads:
    return FakeReads(here=FakeHost(host=Host(name="web1", address="x"), services={"app": state}))


def verbs(actions: object) -> list[str]:
    assert isinstance(actions, tuple)
    found = []
    for action in actions:
        assert isinstance(action, RunCommand) and action.host == "web1" and action.idempotent
        found += [line.split()[1] for line in action.script.replace(" &&", "").splitlines()]
    return found


def carried_out(state: ServiceState, words: list[str]) -> ServiceState:
    """systemctl's part."""
    active, enabled = state.active, state.enabled
    for word in words:
        active = {"start": True, "restart": True, "stop": False}.get(word, active)
        enabled = {"enable": True, "disable": False}.get(word, enabled)
    return ServiceState(exists=True, active=active, enabled=enabled)


STATES = [ServiceState(exists=True, active=a, enabled=e) for a in (True, False)
          for e in (True, False)]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("wanted", ["started", "stopped", "restarted", None])
@pytest.mark.parametrize("enabled", [True, False, None])
def test_every_way_there_and_back(
    state: ServiceState, wanted: str | None, enabled: bool | None
) -> None:
    if wanted is None and enabled is None:
        return
    kind = Service.model_validate({"service": "app", "state": wanted, "enabled": enabled})
    before = kind.observe(world(state))
    done = carried_out(state, verbs(kind.plan(before).actions))
    after = kind.observe(world(done))
    assert kind.verify(before, after).ok
    if wanted != "restarted":
        assert kind.plan(after).actions == () and "already done" in kind.plan(after).reason
    assert carried_out(done, verbs(kind.undo(before))) == state


def test_what_was_not_asked_for_is_left_alone() -> None:
    kind = Service(service="app", state="started")
    before = kind.observe(world(ServiceState(exists=True, active=False, enabled=False)))
    assert verbs(kind.plan(before).actions) == ["start"]
    assert verbs(kind.undo(before)) == ["stop"]
    assert "app" in kind.plan(before).actions[0].script  # type: ignore[union-attr]


def test_a_service_that_dies_or_does_not_exist_is_told() -> None:
    kind = Service(service="app", state="started", enabled=True)
    before = kind.observe(world(ServiceState(exists=True)))
    dead = kind.verify(before, kind.observe(world(ServiceState(exists=True, enabled=True))))
    assert not dead.ok and "does not run" in dead.seen and dead.retry
    none = kind.verify(before, kind.observe(FakeReads()))
    assert not none.ok and not none.retry and "no service app" in none.seen
    assert not isinstance(kind.undo(Observation(state={"exists": False})), Irreversible)


def test_something_must_be_wanted() -> None:
    with pytest.raises(ValidationError, match="give `state`"):
        Service(service="app")
