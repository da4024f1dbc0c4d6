"""Runbooks that move zones of the lab, run as the command line runs them, at the control desk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook.cli.session import Order, Show, start, take_up
from runbook.cli.wiring import load_plan
from runbook.engine.driver import Driven
from runbook.journal import Store, open_store
from runbook.model.actions import ActionResult, ChangeRecordSet
from runbook.model.dns import Change, RRset, Zone
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.transports.clock import SystemClock
from runbook.transports.dns import DnsTransport
from tests.dns_lab import KEY
from tests.lab.lab import Lab
from tests.lab.names import PRIMARY, SECONDARY, TSIG, view_key
from tests.lab.network import inside
from tests.lab.zone_texts import NEW, NEW6, OLD, OLD6

SECRETS = {"LAB_TSIG": TSIG, "LAB_INSIDE": view_key("inside")}
HEAD = f"""\
runbook: move-zones
policy: {{on_failure: rollback}}
secrets: {{tsig: {{env: LAB_TSIG}}, inside: {{env: LAB_INSIDE}}}}
zones:
  shop.example: {{servers: [{PRIMARY}], key: tsig}}
  big.example: {{servers: [{PRIMARY}], key: tsig}}
  signed.example: {{servers: [{PRIMARY}], key: tsig}}
  inline.example: {{servers: [{PRIMARY}], key: tsig}}
  split.example: {{servers: [{PRIMARY}], key: tsig}}
  split.example@inside: {{servers: [{PRIMARY}], key: inside}}
steps:
"""
DOOMED = """
  - id: doomed
    kind: shell
    undo: "true"
    with: {command: "exit 3"}
"""


FAMILIES = f"from: [{OLD}, '{OLD6}'], to: [{NEW}, '{NEW6}']"
STEPS = """\
  - {{id: lower, kind: dns.ttl, with: {{zone: {zone}, points_at: [{old}], ttl: 1}}}}
  - {{id: lowered, kind: dns.wait_ttl, with: {{of: lower, skew: 0s}}}}
  - {{id: flip, kind: dns.flip, with: {{zone: {zone}, from: [{old}], to: [{new}]}}}}
  - {{id: restore, kind: dns.restore_ttl, with: {{of: lower}}}}
"""


def steps(name: str, old: str = f"{OLD}, '{OLD6}'", new: str = f"{NEW}, '{NEW6}'") -> str:
    return STEPS.format(zone=name, old=old, new=new)


class Values:
    def value(self, name: str) -> str:
        return SECRETS["LAB_INSIDE" if name == "inside" else "LAB_TSIG"]


def transport(*zones: Zone) -> DnsTransport:
    return DnsTransport(zones, secrets=Values(), clock=SystemClock())


def zone(name: str, view: str = "") -> Zone:
    return Zone(name=f"{name}.", view=view, servers=(PRIMARY,), key=view or "tsig")


@dataclass
class Done:
    """A run that has ended."""

    plan: Plan
    state: RunState
    driven: Driven
    log: str

    def outputs(self, step: str) -> dict[str, Any]:
        return dict(self.state.nodes[step].outputs)

    def changed(self, step: str) -> set[str]:
        """``name TYPE`` of all that the step changed."""
        return {
            f"{one['name']} {one['rtype']}"
            for action in self.state.nodes[step].actions
            for change in action["changes"]
            for one in (change["before"] or change["after"],)
        }


def move(lab: Lab, folder: Path, steps: str) -> Done:
    """Run these steps on the declared zones to the end; a failure rolls back."""
    folder.mkdir(exist_ok=True)
    file = folder / "runbook.yml"
    file.write_text(HEAD + steps)
    store = open_store(folder / "state")
    with inside(lab.network.namespace("control")):
        run_id, driven = start(load_plan(file, []), store, show=Show.NOTHING)
    return _done(store, run_id, driven)


def take_back(lab: Lab, folder: Path, done: Done) -> Done:
    """``runbook rollback`` of a finished run."""
    store = open_store(folder / "state")
    with inside(lab.network.namespace("control")):
        driven = take_up(store, done.state.run_id, show=Show.NOTHING, order=Order(
            "rollback", {"why": "", "to": None, "accept_loss": [], "accept_drift": []}
        ))
    return _done(store, done.state.run_id, driven)


def _done(store: Store, run_id: str, driven: Driven) -> Done:
    plan, events = store.load(run_id)
    log = "\n".join(f"{event.kind} {event.node} {event.data}" for event in events)
    store.close()
    return Done(plan, fold(run_id, plan, events), driven, log)


def records(lab: Lab, which: Zone) -> dict[tuple[str, str], RRset]:
    """A zone as the product reads it."""
    with inside(lab.network.namespace("control")):
        return {one.key: one for one in transport(which).records(which)}


_SIGNING = r"RRSIG|NSEC3?|NSEC3PARAM|DNSKEY|CDS|CDNSKEY|TYPE65534|SOA"


def axfr(lab: Lab, name: str, key: str = TSIG) -> str:
    """A zone as dig sees it at the primary, sorted, less what every change makes anew. The case
    of names means nothing in DNS (RFC 4343), and a set that is written anew has lower case."""
    parts = key.split(":")
    lines = lab.run(
        "control", "dig", "+noall", "+answer", "+onesoa", "-y", f"{parts[1]}:{parts[0]}:{parts[2]}",
        f"@{PRIMARY}", name, "AXFR",
    ).stdout.splitlines()
    return "\n".join(sorted(
        _lowered(re.sub(r"\s+", " ", line)) for line in lines
        if line and not re.search(rf"\sIN\s+({_SIGNING})\s|\sANY\s+TSIG\s", line)
    ))


def _lowered(line: str) -> str:
    owner, ttl, rclass, rtype, data = line.split(" ", 4)
    data = data.lower() if rtype in {"CNAME", "DNAME", "NS", "MX", "SRV", "PTR"} else data
    return " ".join((owner.lower(), ttl, rclass, rtype, data))


def serial(lab: Lab, name: str) -> int:
    return int(lab.dig(f"@{PRIMARY}", name, "SOA")[0].split()[2])


def everywhere(lab: Lab, name: str, rtype: str) -> list[list[str]]:
    """What primary and secondary answer."""
    return [sorted(lab.dig(f"@{server}", name, rtype)) for server in (PRIMARY, SECONDARY)]


def change(lab: Lab, *changes: Change, name: str = "shop.example") -> ActionResult:
    with inside(lab.network.namespace("control")):
        return transport(zone(name)).perform(
            ChangeRecordSet(zone=f"{name}.", changes=changes), KEY
        )


def one(name: str, rtype: str, *rdatas: str, ttl: int = 2) -> RRset:
    return RRset(name=name, rtype=rtype, ttl=ttl, rdatas=tuple(sorted(rdatas)))
