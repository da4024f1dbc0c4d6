"""What many nodes have in common, in few words: those that tell the same are named together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runbook.model.hostset import folded, folded_nodes
from runbook.model.plan import PlannedStep
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState

_BAD = frozenset({NodeState.FAILED, NodeState.ERRORED, NodeState.IN_DOUBT})
_MOST_KINDS = 3
_MOST_NAMES = 200


def alike(nodes: Iterable[NodeStatus]) -> list[list[NodeStatus]]:
    """Nodes of one step in one state with the same last words, together; the first first."""
    groups: dict[tuple[str, NodeState, str], list[NodeStatus]] = {}
    for node in nodes:
        step = node.node.partition("@")[0]
        groups.setdefault((step, node.state, node.detail), []).append(node)
    return list(groups.values())


def some(names: Sequence[str], most: int) -> str:
    """The first of many names, and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def nodes_named(nodes: Iterable[str]) -> str:
    """``step@web[1-3]``, of nodes of one step."""
    return _short(folded_nodes(nodes))


def hosts_named(nodes: Iterable[str]) -> str:
    """``web[1-3]``, of nodes."""
    return _short(folded(node.partition("@")[2] for node in nodes))


def what_failed(state: RunState, step: PlannedStep) -> str:
    """Why a step has failed: of one on many hosts how many did, which, and what was not begun."""
    nodes = [state.nodes[node.id] for node in step.nodes]
    bad = [node for node in nodes if node.state in _BAD]
    if len(nodes) == 1:
        return f"step {step.id} {nodes[0].state.value}: {nodes[0].detail}"
    groups = alike(bad)
    told = [
        f"{hosts_named(node.node for node in group)} {group[0].state.value.replace('_', ' ')}: "
        f"{group[0].detail}"
        for group in groups[:_MOST_KINDS]
    ]
    rest = sum(map(len, groups[_MOST_KINDS:]))
    if rest:
        told.append(f"{rest} others for other reasons")
    allowed = f" ({step.max_failures} may)" if step.max_failures else ""
    pending = sum(node.state is NodeState.PENDING for node in nodes)
    left = f"; {pending} not begun" if pending else ""
    return (f"step {step.id} failed on {len(bad)} of {len(nodes)} hosts{allowed}: "
            f"{'; '.join(told)}{left}")


def _short(names: str) -> str:
    return names if len(names) <= _MOST_NAMES else f"{names[:_MOST_NAMES]} …"
