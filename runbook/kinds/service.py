"""The kind ``service``."""

from __future__ import annotations

import shlex
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from runbook.errors import Errored
from runbook.kinds._shared import Plain, tail, whose
from runbook.kinds.needs_common import Seen, need, place, units_can_be_managed
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import HostReads, Reads

_VERB = {"started": "start", "stopped": "stop", "restarted": "restart", "reloaded": "reload"}


class Service(Kind):
    """Start, stop, restart or reload a systemd service; enable or disable it.

    `restarted` and `reloaded` act every time; the others do nothing where the service already is
    as wanted. With a `poll:` on the step, verification waits until it holds, and `stable` finds
    a service that starts and dies.
    """

    name: ClassVar[str] = "service"
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 3.0
    example: ClassVar[str] = """\
- id: start-app
  kind: service
  hosts: west and app
  with: {service: shop-app, state: started, enabled: true}
  poll: {every: 1s, timeout: 30s, stable: 3}
"""

    service: Plain = Field(min_length=1, description="Name of the unit.")
    state: Literal["started", "stopped", "restarted", "reloaded"] | None = Field(
        default=None, description="What shall be so now. Left as it is where not given."
    )
    enabled: bool | None = Field(
        default=None, description="Whether it starts at boot. Left as it is where not given."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.state is None and self.enabled is None:
            raise ValueError("give `state`, `enabled`, or both")
        return self

    def observe(self, reads: Reads) -> Observation:
        found = reads.here.service(self.service)
        state: dict[str, Any] = {"exists": found.exists}
        if found.exists:
            state |= {"active": found.active, "enabled": found.enabled}
        return Observation(state=state, evidence=whose(reads), at=reads.now())

    def plan(self, before: Observation) -> Planned:
        verbs = []
        if self.enabled is not None and before.state.get("enabled") != self.enabled:
            verbs.append("enable" if self.enabled else "disable")
        if self.state is not None:
            running = {"started": True, "stopped": False}.get(self.state)
            if running is None or before.state.get("active") != running:
                verbs.append(_VERB[self.state])
        if not verbs:
            return Planned(reason=f"already done: {self.service} is {_words(before.state)}")
        return Planned(actions=(self._command(before, verbs),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        state = after.state
        if not state.get("exists"):
            return Verdict(ok=False, seen=f"there is no service {self.service}", retry=False)
        faults = []
        if self.state is not None and state["active"] != (self.state != "stopped"):
            faults.append("it runs" if state["active"] else "it does not run")
        if self.enabled is not None and state["enabled"] != self.enabled:
            faults.append("it starts at boot" if state["enabled"] else "it does not start at boot")
        told = "; ".join(faults) or _words(state)
        return Verdict(ok=not faults, seen=f"{self.service}: {told}")

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A unit that systemd can load and do this with, and the right to manage units: being root,
        or polkit's yes."""
        here = reads.here
        unit = need(
            f"systemd can do this with {self.service}", lambda: self._unit(here),
            made_by=place(here), hint=f"see `systemctl cat {self.service}`",
        )
        return unit, units_can_be_managed(here)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        if not seen.state.get("exists"):
            return ()
        lines = []
        running = "running" if seen.state["active"] else "stopped"
        if self.state in {"started", "stopped"}:
            after = "running" if self.state == "started" else "stopped"
            lines += [f"{self.service}: {running} → {after}"] if after != running else []
        elif self.state is not None:
            lines.append(f"{self.service}: {running} → running, {self.state}")
        if self.enabled is not None and self.enabled != seen.state["enabled"]:
            words = ("does not start at boot", "starts at boot")
            lines.append(f"{self.service}: {words[not self.enabled]} → {words[self.enabled]}")
        return tuple(lines)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: running or not, started at boot or not, as it was before."""
        if not before.state.get("exists"):
            return ()
        verbs = []
        if self.enabled is not None and before.state["enabled"] != self.enabled:
            verbs.append("disable" if self.enabled else "enable")
        if self.state is not None and before.state["active"] != (self.state != "stopped"):
            verbs.append("start" if before.state["active"] else "stop")
        return (self._command(before, verbs),) if verbs else ()

    def preview(self) -> tuple[str, ...]:
        boot = {None: [], True: ["enable"], False: ["disable"]}[self.enabled]
        verbs = boot + ([_VERB[self.state]] if self.state else [])
        return tuple(f"systemctl {verb} {self.service}" for verb in verbs)

    def _unit(self, here: HostReads) -> Seen:
        told = here.query(
            f"systemctl show -p LoadState,CanReload,UnitFileState {shlex.quote(self.service)}"
        )
        facts = dict(line.partition("=")[::2] for line in told.stdout.splitlines())
        loaded = facts.get("LoadState", "")
        if told.exit_code != 0 or not loaded:
            raise Errored(tail(told.stderr) or "systemctl gives no answer")
        if loaded != "loaded":
            return Seen(False, f"the unit is {loaded.replace('-', ' ')}", fact=loaded)
        if self.state == "reloaded" and facts.get("CanReload") == "no":
            return Seen(False, "it knows no reload", fact=loaded)
        if self.enabled and facts.get("UnitFileState") == "static":
            return Seen(False, "it is static: it cannot be enabled", fact=loaded)
        return Seen(True, loaded, fact=loaded)

    def _command(self, before: Observation, verbs: list[str]) -> RunCommand:
        unit = shlex.quote(self.service)
        return RunCommand(
            host=before.evidence.get("host"),
            script=" &&\n".join(f"systemctl {verb} {unit}" for verb in verbs),
            idempotent=True,
        )


def _words(state: dict[str, Any]) -> str:
    if not state.get("exists"):
        return "not there"
    runs = "running" if state["active"] else "stopped"
    return f"{runs}, {'starts' if state['enabled'] else 'does not start'} at boot"
