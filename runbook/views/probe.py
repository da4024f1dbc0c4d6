"""What a probe found, for a terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runbook.engine.probe import (
    CacheHolds,
    Drift,
    Drifted,
    HostSeen,
    NeedSeen,
    Probed,
    ProbeReport,
)
from runbook.model.dns import show_weights
from runbook.model.duration import format_duration
from runbook.model.hostset import folded, folded_nodes
from runbook.views.consoles import styled_console
from runbook.views.times import at

_LONGEST = 200
_CHANGES = 8
"""Record sets and lines of one step that are shown."""
_MARKS = {"read": "[green]read[/]", "simulated": "[cyan]simulated[/]",
          "skipped": "[dim]skipped[/]", "unknown": "[red]unknown[/]"}
_NEEDS = {"unmet": ("not met", "bold red"), "warning": ("beware", "yellow"),
          "unknown": ("not known", "yellow")}
"""What is shown of a need that is not met, and how; the others are quiet."""
_COUNTED = {"met": "met", "warning": "to beware of", "unmet": "not met", "unknown": "not known",
            "skipped": "up to earlier steps"}


def show_probe(report: ProbeReport, drift: Drift | None = None) -> None:
    """What each step would do now and needs for it, and how well that is known."""
    console = styled_console()
    console.print("[bold]Probe[/]: what each step would do, read from the world as it is\n")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for node in report.nodes:
        table.add_row(_MARKS[node.how], _node(node))
    console.print(table)
    console.print()
    for host in report.hosts:
        for line in _host(host):
            console.print(line)
    for cache in report.caches:
        console.print(_cache(cache))
    if report.secrets is not None:
        for line in _needs([report.secrets]):
            console.print(line)
    if report.needs_counts["met"] < sum(report.needs_counts.values()):
        console.print(f"Needs: {_needs_counted(report)}.")
    console.print(f"Fidelity {report.fidelity:.0%}: {_counted(report)}. Nothing was changed.")
    _show_problems(console, report)
    if drift is not None:
        console.print()
        _show_drift(console, drift)


def show_round(report: ProbeReport, drift: Drift | None, *, moment: float) -> None:
    """One of several probes: a line, what is to be mended, and what has changed."""
    console = styled_console()
    line = Text(f"{at(moment, UTC):%Y-%m-%d %H:%M:%S}Z  ")
    line.append("good" if report.ok else "NOT good", "green" if report.ok else "bold red")
    line.append(f"  fidelity {report.fidelity:.0%}: {_counted(report)}; "
                f"needs: {_needs_counted(report) or 'none'}")
    console.print(line)
    _show_problems(console, report)
    if drift is not None:
        _show_drift(console, drift)


def probe_json(report: ProbeReport, drift: Drift | None, *, moment: float) -> str:
    """All of it, in one line."""
    return json.dumps({
        "level": "probe", "ts": moment, "ok": report.ok, "fidelity": report.fidelity,
        "counts": report.counts, "need_counts": report.needs_counts,
        **report.model_dump(mode="json"),
        "drift": drift.model_dump(mode="json") if drift is not None else None})


def _node(node: Probed) -> Text:
    lines = Text.assemble((node.node, "bold"), "  ", _would(node))
    for change in _shortened(_changes(node)):
        lines.append(f"\n  {change}", style="cyan")
    if node.would and node.undo != "nothing to undo":
        lines.append(f"\nway back: {node.undo}", style="dim")
    for line in _needs(node.needs):
        lines.append("\n")
        lines.append(line)
    return lines


def _needs(needs: Iterable[NeedSeen]) -> Iterator[Text]:
    for need in needs:
        if need.state in _NEEDS:
            word, style = _NEEDS[need.state]
            line = Text(f"{word}: ", style)
            line.append(need.what + (f": {_short(need.seen)}" if need.seen else ""), "not bold")
            if need.hint:
                line.append(f" ({need.hint})", "dim")
            yield line


def _host(host: HostSeen) -> Iterator[Text]:
    name = host.name or "the controller"
    if not host.answers:
        yield Text.assemble((name, "bold"), ": ", ("it does not answer", "bold red"))
    for line in _needs(host.needs):
        yield Text.assemble((name, "bold"), ": ", line)


def _cache(cache: CacheHolds) -> Text:
    head = f"resolver {cache.resolver}: "
    if cache.says:
        return Text(head + cache.says, "dim")
    if not cache.held:
        return Text(f"{head}it holds none of the {cache.asked} sets that would change", "dim")
    line = Text(
        f"{head}it holds {cache.held} of the {cache.asked} sets that would change, "
        f"{cache.longest} for {format_duration(cache.left)} more"
    )
    if cache.beyond:
        several = ", ".join(_shortened(cache.beyond))
        line.append(
            f"; for longer than their TTL is now: {several}. It asked before that was lowered, "
            "or it raises TTLs", "yellow",
        )
    return line


def _changes(node: Probed) -> list[str]:
    """Each change in a line: what the kind says, and the record sets of its actions."""
    found = list(node.changes)
    seen = set()
    for action in node.would:
        for change in action.get("changes", ()) if action["action"] == "change_record_set" else ():
            key = _set_name(change)
            if key not in seen and _weights(change) is None:
                seen.add(key)
                found.append(f"{key}: {_set_change(change)}")
    return found


def _set_name(change: Mapping[str, Any]) -> str:
    one = change.get("after") or change.get("before") or {}
    return f"{one.get('name')} {one.get('rtype')}"


def _set_change(change: Mapping[str, Any]) -> str:
    before, after = change.get("before"), change.get("after")
    if before is None or after is None:
        return f"{_values(before)} → {_values(after)}"
    parts = []
    if before["rdatas"] != after["rdatas"]:
        parts.append(f"{', '.join(before['rdatas'])} → {', '.join(after['rdatas'])}")
    if before["ttl"] != after["ttl"]:
        parts.append(f"TTL {before['ttl']} → {after['ttl']}")
    return ", ".join(parts) or "as it is"


def _values(rrset: Mapping[str, Any] | None) -> str:
    if rrset is None:
        return "no such set"
    return f"{', '.join(rrset['rdatas'])} (TTL {rrset['ttl']})"


def _show_problems(console: Console, report: ProbeReport) -> None:
    for where, text in _problems(report):
        console.print(f"[red]mend before the run:[/] {where}: ", end="")
        console.print(text, markup=False, soft_wrap=True)


def _problems(report: ProbeReport) -> Iterator[tuple[str, str]]:
    """Where, and what: all that makes a probe one that went badly."""
    secrets = [report.secrets] if report.secrets is not None else []
    needs = [("secrets", secrets), *((host.name, host.needs) for host in report.hosts)]
    for where, several in needs:
        yield from ((where, _stated(need)) for need in several if need.state == "unmet")
    for node in report.nodes:
        if node.problem:
            yield node.node, node.says
        yield from ((node.node, _stated(need)) for need in node.unmet)


def _stated(need: NeedSeen) -> str:
    return f"{need.what}: {need.seen}" if need.seen else need.what


def _show_drift(console: Console, drift: Drift) -> None:
    number = len(drift.changed)
    what = {0: "nothing changed", 1: "1 thing changed"}.get(number, f"{number} things changed")
    other = "" if drift.same_plan else ", which was of another version of this runbook"
    since = f"{at(drift.since, UTC):%Y-%m-%d %H:%M}Z"
    console.print(f"[bold]Since the probe of {since}[/]{other}: {what}")
    for changes in _alike(drift.changed):
        one = changes[0]
        where = folded(change.host for change in changes) if one.host else folded_nodes(
            change.node for change in changes
        )
        console.print(
            Text.assemble("  ", (where, "bold"), f": {one.what}: {one.then} → {one.now}")
        )


def _alike(changed: Iterable[Drifted]) -> list[list[Drifted]]:
    """Those of several hosts that are the same."""
    found: dict[tuple[str, ...], list[Drifted]] = {}
    for one in changed:
        key = (one.step or "host", one.what, one.then, one.now)
        found.setdefault(key, []).append(one)
    return list(found.values())


def _counted(report: ProbeReport) -> str:
    return ", ".join(f"{number} {how}" for how, number in report.counts.items() if number)


def _needs_counted(report: ProbeReport) -> str:
    return ", ".join(
        f"{number} {_COUNTED[state]}" for state, number in report.needs_counts.items() if number
    )


def _would(node: Probed) -> str:
    if not node.would:
        return _short(node.says)
    return "; ".join(_action(action) for action in node.would)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _shortened(lines: Iterable[str]) -> list[str]:
    found = [_short(line) for line in lines]
    more = len(found) - _CHANGES
    return found if more <= 0 else [*found[:_CHANGES], f"and {more} more"]


def _action(action: Mapping[str, Any]) -> str:
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
    if name == "execute_sql":
        first = " ".join(str(action["statements"][0]).split())
        return f"execute on {action['database']}: {first[:100]}"
    return str(name)


def _weights(change: Mapping[str, Any]) -> str | None:
    """Of a weighted set the weights it would get; None for another."""
    after = change.get("after") or {}
    if not after.get("variants"):
        return None
    weights = {one["name"]: one["weight"] for one in after["variants"]}
    return f"{after['name']} {after['rtype']}: {show_weights(weights)}"
