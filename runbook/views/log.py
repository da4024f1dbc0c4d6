"""``runbook log``: what happened, event by event; and a step's whole output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from runbook.model.events import Event
from runbook.model.hostset import folded_nodes
from runbook.model.plan import Plan
from runbook.views.consoles import ascii_only, plain_console
from runbook.views.plain import node_width
from runbook.views.times import at, plan_zone
from runbook.views.words import describe, event_style, to_ascii


def of_nodes(events: Sequence[Event], nodes: Sequence[str]) -> list[Event]:
    """The events of these nodes alone."""
    wanted = set(nodes)
    return [event for event in events if event.node in wanted]


def print_log(plan: Plan, events: Sequence[Event], *, console: Console | None = None) -> None:
    """A line an event; a heading where the day changes. Times are in the window's zone."""
    console = console or plain_console()
    zone = plan_zone(plan)
    width = node_width([event.node for event in events])
    day = ""
    for event in events:
        moment = at(event.ts, zone)
        today = f"{moment:%A %d %B %Y %Z}".rstrip()
        if today != day:
            day = today
            console.print(Text(day, style="bold"))
        line = Text.assemble(
            (f"{moment:%H:%M:%S}", "dim"), "  ", f"{event.node:<{width}}  ",
            (describe(event), event_style(event)),
        )
        if ascii_only(console):
            line.plain = to_ascii(line.plain)
        console.print(line)


def json_lines(events: Sequence[Event]) -> Iterator[str]:
    """One JSON object an event, with every field and its words."""
    for event in events:
        data = {**asdict(event), "data": dict(event.data), "text": describe(event)}
        yield json.dumps(data, ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Output:
    """What one action of one attempt wrote. ``note`` tells where it is not the whole."""

    node: str
    op: str
    attempt: int
    index: int
    exit_code: int | None
    stdout: str
    stderr: str
    note: str = ""


def outputs_of(events: Sequence[Event], nodes: Sequence[str], base: Path) -> list[Output]:
    """The stored output of every action of these nodes, oldest first.

    Relative paths start at ``base``. Where a file is gone, the beginning that the journal
    itself keeps is given, and ``note`` says so.
    """
    found: dict[tuple[str, str, int, int], Output] = {}
    for event in of_nodes(events, nodes):
        for index, result in enumerate(event.data.get("results") or ()):
            data = result.get("data") or {}
            if "stdout" in data or "stdout_path" in data:
                found[event.node, event.op, event.attempt, index] = _output(
                    event, index, data, base
                )
    return list(found.values())


def _output(event: Event, index: int, data: dict[str, Any], base: Path) -> Output:
    texts, notes = {}, []
    for name in ("stdout", "stderr"):
        texts[name] = str(data.get(name) or "")
        path = data.get(f"{name}_path")
        if not path:
            continue
        try:
            texts[name] = (base / path).read_text(encoding="utf-8", errors="replace")
        except OSError as fault:
            notes.append(f"{name}: {path} cannot be read ({fault.strerror}); this is the "
                         "beginning that the journal keeps")
    code = data.get("exit_code")
    return Output(
        event.node, event.op, event.attempt, index, code if isinstance(code, int) else None,
        texts["stdout"], texts["stderr"], "; ".join(notes),
    )


def output_lines(outputs: Sequence[Output]) -> Iterator[str]:
    """One JSON object an output, with every field."""
    for item in outputs:
        yield json.dumps(asdict(item), ensure_ascii=False, sort_keys=True)


def print_outputs(outputs: Sequence[Output], *, stream: TextIO | None = None) -> None:
    """Every output under a heading; hosts of a step that wrote the same share one, and those that
    failed come first. On a terminal, control characters of the output are made visible, so that
    nothing a host printed can move the cursor or set a title."""
    out = stream or sys.stdout
    harmless = out.isatty()
    for item, nodes in _alike(outputs):
        undo = "undo, " if item.op == "undo" else ""
        code = "" if item.exit_code is None else f", exit {item.exit_code}"
        many = f"{len(nodes)} hosts, " if len(nodes) > 1 else ""
        head = f"== {folded_nodes(nodes)} ({many}{undo}attempt {item.attempt}, action " \
               f"{item.index + 1}{code})"
        out.write(f"{head}\n")
        if item.note:
            out.write(f"-- {item.note}\n")
        for name, text in (("", item.stdout), ("-- stderr\n", item.stderr)):
            if text:
                shown = _visible(text) if harmless else text
                out.write(name + shown + ("" if shown.endswith("\n") else "\n"))
        if not (item.stdout or item.stderr):
            out.write("-- no output\n")


def _alike(outputs: Sequence[Output]) -> list[tuple[Output, list[str]]]:
    """One of each kind of output of a step, with the nodes that wrote it."""
    groups: dict[tuple[object, ...], tuple[Output, list[str]]] = {}
    for item in outputs:
        step = item.node.partition("@")[0]
        key = (step, item.op, item.attempt, item.index, item.exit_code, item.stdout, item.stderr,
               item.note)
        groups.setdefault(key, (item, []))[1].append(item.node)
    order = list(dict.fromkeys(one.node.partition("@")[0] for one in outputs))
    return sorted(
        groups.values(),
        key=lambda group: (order.index(group[0].node.partition("@")[0]), not group[0].exit_code),
    )


def _visible(text: str) -> str:
    kept = "\n\t"
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii")
        for c in text.replace("\r\n", "\n")
    )
