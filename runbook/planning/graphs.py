"""The graph of steps as text for Mermaid and for Graphviz. Pure."""

from __future__ import annotations

import itertools

from runbook.model.duration import format_duration
from runbook.model.plan import Plan, PlannedStep
from runbook.planning.timeline import Timeline


def mermaid(plan: Plan, timeline: Timeline) -> str:
    """A Mermaid flowchart; the critical path is drawn thick, skipped steps dashed."""
    number = {step.id: f"s{index}" for index, step in enumerate(plan.steps, 1)}
    path = list(timeline.critical_path)
    thick = set(itertools.pairwise(path))
    lines = ["flowchart TD"]
    for step in plan.steps:
        text = "<br/>".join(_mermaid_text(line) for line in _label(step, timeline))
        lines.append(f'  {number[step.id]}["{text}"]')
    for step in plan.steps:
        for earlier in step.after:
            arrow = "==>" if (earlier, step.id) in thick else "-->"
            lines.append(f"  {number[earlier]} {arrow} {number[step.id]}")
    for name, style, members in (
        ("critical", "stroke:#c00,stroke-width:3px", path),
        ("skipped", "stroke-dasharray:4 4,color:#888",
         [step.id for step in plan.steps if step.skipped is not None]),
    ):
        if members:
            lines.append(f"  classDef {name} {style}")
            lines.append(f"  class {','.join(number[one] for one in members)} {name}")
    return "\n".join(lines) + "\n"


def dot(plan: Plan, timeline: Timeline) -> str:
    """A Graphviz digraph; the critical path is red and thick, skipped steps dashed."""
    path = list(timeline.critical_path)
    thick = set(itertools.pairwise(path))
    lines = [
        f"digraph {_quoted(plan.runbook)} {{",
        "  rankdir=TB;",
        '  node [shape=box, fontname="sans-serif"];',
    ]
    for step in plan.steps:
        label = "\\n".join(_dot_text(line) for line in _label(step, timeline))
        extra = ""
        if timeline.slots[step.id].critical:
            extra = ", color=red, penwidth=2"
        elif step.skipped is not None:
            extra = ", style=dashed, fontcolor=gray"
        lines.append(f'  {_quoted(step.id)} [label="{label}"{extra}];')
    for step in plan.steps:
        for earlier in step.after:
            extra = " [color=red, penwidth=2]" if (earlier, step.id) in thick else ""
            lines.append(f"  {_quoted(earlier)} -> {_quoted(step.id)}{extra};")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _label(step: PlannedStep, timeline: Timeline) -> list[str]:
    hosts = sum(node.host is not None for node in step.nodes)
    words = [step.kind]
    if hosts:
        words.append(f"{hosts} host{'s' if hosts != 1 else ''}")
    takes = format_duration(timeline.slots[step.id].takes)
    words.append("skipped" if step.skipped is not None else takes)
    return [step.id, " · ".join(words)]


def _mermaid_text(text: str) -> str:
    """Mermaid reads ``#code;`` entities inside quoted text."""
    safe = "".join(
        char if char.isalnum() or char in " -_/.·@,:" else f"#{ord(char)};" for char in text
    )
    return safe or " "


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _quoted(text: str) -> str:
    return f'"{_dot_text(text)}"'
