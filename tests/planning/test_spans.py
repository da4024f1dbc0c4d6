"""What one step begins, a later one ends: a plan that may never end it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.plan import Plan
from runbook.planning import build_plan

HEAD = """\
runbook: spans
inventory: {hosts: {east: {address: 192.0.2.1, roles: [app]}, west: {address: 192.0.2.2}}}
zones: {shop.example: {servers: [192.0.2.53]}}
steps:
  - {id: count, kind: shell, with: {command: "true"}, undo: "true", outputs: {n: {type: int}}}
"""
HOLD = "  - {id: hold, kind: cron.hold, hosts: [east, west], with: {users: shop}}\n"
RELEASE = "  - {id: release, kind: cron.release, hosts: [east, west], with: {of: hold}}\n"
QUIET = "  - {id: quiet, kind: alerts.silence, with: {url: 'http://a', matchers: a=b, for: 1h}}\n"
LOUD = "  - {id: loud, kind: alerts.unsilence, with: {url: 'http://a', of: quiet}}\n"
LOWER = "  - {id: lower, kind: dns.ttl, with: {zone: shop.example, points_at: 192.0.2.1, ttl: 9}}\n"
LONGER = "  - {id: more, kind: alerts.silence, with: {url: 'http://a', extend: quiet, for: 2h}}\n"
RESTORE = "  - {id: restore, kind: dns.restore_ttl, with: {of: lower}}\n"
IF = 'when: "{{ outputs.count.n > 1 }}", '


def plan(folder: Path, steps: str, head: str = HEAD) -> Plan:
    file = folder / "runbook.yml"
    file.write_text(head + steps)
    return build_plan(load_runbook(file, kinds=registry()), kinds=registry())


def refusal(folder: Path, steps: str, head: str = HEAD) -> str:
    with pytest.raises(InvalidInput) as found:
        plan(folder, steps, head)
    return "\n".join(one.message for one in found.value.diagnostics)


def when(step: str, condition: str = IF) -> str:
    return step.replace("kind:", f"{condition}kind:")


@pytest.mark.parametrize("steps", [
    HOLD + RELEASE, QUIET + LOUD, LOWER + RESTORE, when(HOLD) + when(RELEASE),
    # A new end is not a new silence; TTLs may be raised again by hand.
    QUIET + LONGER + LOUD, LOWER,
    # Neither is done.
    when(HOLD, "when: false, ") + when(RELEASE, "when: false, "),
    HOLD + RELEASE.replace("kind:", "on_failure: rollback, kind:"),
])
def test_what_is_ended_is_planned(tmp_path: Path, steps: str) -> None:
    assert plan(tmp_path, steps).steps


@pytest.mark.parametrize(("steps", "said", "line"), [
    (HOLD, "what step 'hold' begins is never ended: no cron.release step names it", 6),
    (QUIET, "no alerts.unsilence step names it", 6),
    (HOLD + when(RELEASE, "when: false, "), "what step 'hold' begins is never ended", 6),
    (HOLD + when(RELEASE), "but under another condition", 7),
    (when(HOLD) + RELEASE, "but under another condition", 7),
    (LOWER + when(RESTORE), "but under another condition", 7),
    (HOLD + RELEASE.replace("[east, west]", "east"), "but on other hosts", 7),
    (HOLD + RELEASE.replace("kind:", "on_failure: continue, kind:"), "cannot be left to fail", 7),
    (HOLD + RELEASE.replace("kind:", "max_failures: 1, kind:"), "cannot be left to fail", 7),
    (QUIET + LOUD.replace("kind:", "on_failure: continue, kind:"), "cannot be left to fail", 7),
    (RELEASE + HOLD, "comes after this one", 6),
])
def test_what_may_never_be_ended_is_refused(
    tmp_path: Path, steps: str, said: str, line: int
) -> None:
    with pytest.raises(InvalidInput) as found:
        plan(tmp_path, steps)
    [one] = found.value.diagnostics
    assert said in one.message and one.hint
    assert one.position is not None and one.position.line == line


def test_a_policy_that_goes_on_does_not_hold_for_the_end_of_a_span(tmp_path: Path) -> None:
    head = HEAD.replace("steps:", "policy: {on_failure: continue}\nsteps:")
    assert "cannot be left to fail" in refusal(tmp_path, HOLD + RELEASE, head)
    assert plan(tmp_path, HOLD + RELEASE.replace("kind:", "on_failure: hold, kind:"), head).steps


def test_both_may_stand_in_one_playbook_or_one_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "playbooks"
    folder.mkdir()
    inner = (HOLD + RELEASE).replace("[east, west]", "east")
    (folder / "both.yml").write_text(f"playbook: both\nsteps:\n{inner}")
    (folder / "one.yml").write_text(
        f"playbook: one\nsteps:\n{HOLD.replace('[east, west]', 'east')}")
    call = f"  - {{id: call, {IF}playbook: both}}\n"
    assert plan(tmp_path, call).by_id["call/release"].when
    outside = "  - {id: release, kind: cron.release, hosts: east, with: {of: call/hold}}\n"
    assert "under another condition" in refusal(tmp_path, call.replace("both", "one") + outside)
