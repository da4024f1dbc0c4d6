"""What rehearsals found, for a terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from runbook.engine.driver import Driven
from runbook.engine.probe import Probed, ProbeReport
from runbook.model.dns import show_weights
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.planning.timeline import Timeline
from runbook.sandbox.judgement import Judgement
from runbook.views.consoles import styled_console

_LONGEST = 200
_MARKS = {"read": "[green]read[/]", "simulated": "[cyan]simulated[/]",
          "skipped": "[dim]skipped[/]", "unknown": "[red]unknown[/]"}


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


def show_probe(report: ProbeReport, *, as_json: bool) -> None:
    """Result of a probe: what each step would do now, and how well that is known."""
    if as_json:
        print(json.dumps({  # noqa: T201
            "level": "probe", "ok": report.ok, "fidelity": report.fidelity,
            "counts": report.counts, **report.model_dump(mode="json")}))
        return
    console = styled_console()
    console.print("[bold]Probe[/]: what each step would do, read from the world as it is\n")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for node in report.nodes:
        lines = Text.assemble((node.node, "bold"), "  ", _would(node))
        if node.would and node.undo != "nothing to undo":
            lines.append(f"\nway back: {node.undo}", style="dim")
        table.add_row(_MARKS[node.how], lines)
    console.print(table)
    console.print()
    counts = ", ".join(f"{number} {how}" for how, number in report.counts.items() if number)
    console.print(f"Fidelity {report.fidelity:.0%}: {counts}. Nothing was changed.")
    problems = [node for node in report.nodes if node.problem]
    for node in problems:
        console.print(f"[red]mend before the run:[/] {node.node}: ", end="")
        console.print(node.says, markup=False, soft_wrap=True)


def _would(node: Probed) -> str:
    if not node.would:
        return _short(node.says)
    return "; ".join(_action(action) for action in node.would)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _action(action: dict[str, Any]) -> str:
    name = action["action"]
    if name == "run_command":
        first = str(action["script"]).strip().splitlines()[0]
        return f"run: {first[:100]}"
    if name == "put_file":
        return f"{'write' if action.get('content') else 'remove'} {action['path']}"
    if name == "change_record_set":
        weighed = [w for change in action["changes"] if (w := _weights(change)) is not None]
        if weighed:
            return f"weigh {', '.join(weighed)}"
        return f"change {len(action['changes'])} record sets of {action['zone']}"
    if name == "wait_for":
        return f"wait: {action['why']}"
    if name == "confirm":
        return f"check ({action['what']})"
    if name == "ask_operator":
        return f"ask: {action['question']}"
    if name == "notify":
        return f"tell {action['channel']}: {action['message']}"
    return str(name)


def _weights(change: dict[str, Any]) -> str | None:
    """Of a weighted set the weights it would get; None for another."""
    after = change.get("after") or {}
    if not after.get("variants"):
        return None
    weights = {one["name"]: one["weight"] for one in after["variants"]}
    return f"{after['name']} {after['rtype']}: {show_weights(weights)}"


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
