"""What rehearsals found, for a terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook.engine.driver import Driven
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.planning.timeline import Timeline
from runbook.sandbox.judgement import Judgement
from runbook.views.consoles import styled_console


def show_offline(plan: Plan, timeline: Timeline, *, ok: bool, as_json: bool) -> None:
    """Result of a rehearsal of level *plan*."""
    if as_json:
        print(json.dumps({  # noqa: T201
            "level": "plan", "digest": plan.digest, "ok": ok, "total_seconds": timeline.total,
            "fits_window": timeline.fits_window}))
        return
    console = styled_console()
    fits = {True: "fits the window", False: "does NOT fit the window", None: "no window given"}
    console.print(
        f"Rehearsed offline: {len(plan.steps)} steps, {format_duration(timeline.total)} by "
        f"estimate, {fits[timeline.fits_window]}. Digest {plan.digest[:12]}.")
    console.print("See it all: runbook plan FILE. Next: rehearse --level probe, then sandbox.")


def show_played(
    run_id: str, driven: Driven, judgement: Judgement | None, changed: list[str] | None, *,
    ok: bool, as_json: bool,
) -> None:
    """Result of a rehearsal in the sandbox."""
    if as_json:
        print(json.dumps({  # noqa: T201
            "level": "sandbox", "ok": ok, "run": run_id, "phase": driven.phase,
            "why": driven.why, "changed": changed,
            "judgement": judgement.model_dump(mode="json") if judgement else None}))
        return
    console = styled_console()
    if judgement is not None:
        console.print(
            f"Judge: {judgement.writes_acknowledged} writes acknowledged, "
            f"{judgement.writes_lost} lost; write outage "
            f"{format_duration(judgement.write_outage.total_virtual)} of the run's time, read "
            f"outage {format_duration(judgement.read_outage.total_virtual)}.")
    if changed is not None:
        console.print("The world is as it was before." if not changed else
                      "The world is NOT as it was before:")
        for line in changed:
            console.print(f"  {line}", markup=False)
    console.print("Rehearsal " + ("[green]passed[/]" if ok else "[red]did not pass[/]"))


def show_staged(
    run_id: str, driven: Driven, *, ok: bool, digest: str, data: Mapping[str, Any], as_json: bool
) -> None:
    """Result of a rehearsal in staging. ``digest``: of the plan that is to run live."""
    if as_json:
        print(json.dumps({  # noqa: T201
            "level": "staging", "ok": ok, "run": run_id, "digest": digest, "why": driven.why,
            **data}))
        return
    console = styled_console()
    if data["by_hand"]:
        console.print(f"Not rehearsed, as a person decided about them: "
                      f"{', '.join(data['by_hand'])}", markup=False)
    console.print("Rehearsal " + ("[green]passed[/]" if ok else "[red]did not pass[/]")
                  + f"; recorded for the live plan {digest[:12]}")
