"""What the commands that speak to a run from another terminal have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from runbook.cli.wiring import find_run, open_state, person, read_endpoints, real_clock
from runbook.errors import NotFound, Refused

if TYPE_CHECKING:
    from runbook.journal import Store
    from runbook.model.runstate import RunState


def load_state(store: Store, run_id: str) -> RunState:
    """The run, folded from its journal."""
    from runbook.model.folding import fold

    plan, events = store.load(run_id)
    return fold(run_id, plan, events)


def nodes_of(state: RunState, step: str) -> list[str]:
    """Nodes meant by ``STEP`` or ``STEP@HOST``. Raises NotFound with a suggestion."""
    import difflib

    if step in state.plan.by_id:
        return [node.id for node in state.plan.by_id[step].nodes]
    if step in state.nodes:
        return [step]
    close = difflib.get_close_matches(step, [*state.plan.by_id, *state.nodes], n=1)
    raise NotFound(
        f"run {state.run_id} has no step {step!r}",
        hint=f"did you mean {close[0]!r}?" if close else "see `runbook status`",
    )


def _addressed(state: RunState, nodes: list[str], verb: str) -> list[str]:
    """Of the nodes of a step on many hosts those that a verb is about: what went well on the
    others is left alone, and where some ask, the answer is theirs."""
    from runbook.model.state import FINISHED, NodeState

    found = {name: state.nodes[name] for name in nodes}
    if verb == "retry":
        wanted = {NodeState.FAILED, NodeState.ERRORED}
        return [name for name, node in found.items() if node.state in wanted]
    if verb == "resolve":
        return [name for name, node in found.items() if node.unsettled or node.undo_unsettled]
    # Whether a step may start at all is asked at one of its nodes, and is about every one.
    asking = [name for name, node in found.items()
              if node.question and node.state is not NodeState.PENDING]
    return asking or [name for name, node in found.items() if node.state not in FINISHED]


def _check_heard(state: RunState, verb: str) -> None:
    """Raises Refused for an order that no controller would ever carry out."""
    from runbook.engine.orders import why_not_heard
    from runbook.model.state import RunPhase

    why = why_not_heard(state, verb)
    if not why:
        return
    run = state.run_id
    hint = f"see `runbook status {run}`"
    if state.phase is RunPhase.DONE:
        hint = f"it can be taken back: runbook rollback {run}"
    elif state.phase is RunPhase.NOT_RESTORED:
        hint = f"mend the cause, then try again what was not: runbook rollback {run}"
    elif state.phase in {RunPhase.ROLLED_BACK, RunPhase.ABORTED}:
        hint = f"runbook report {run}"
    raise Refused(f"{verb} means nothing now: {why}", hint=hint)


def _skippable(state: RunState, nodes: list[str]) -> list[str]:
    """Of these nodes those that can be left out; the others are told of. Raises Refused where
    none can."""
    from runbook.engine.orders import why_not_skipped

    why = {name: why_not_skipped(state.nodes[name]) for name in nodes}
    found = [name for name, reason in why.items() if not reason]
    if not found:
        name, reason = next(iter(why.items()))
        raise Refused(f"{name} cannot be skipped now: {reason}",
                      hint=f"see `runbook status {state.run_id}`")
    for name, reason in why.items():
        if reason:
            typer.echo(f"not {name}: {reason}")
    return found


def _check_role(state: RunState, nodes: list[str], role: str) -> None:
    """Raises Refused for an answer in no role, or in one that is not asked."""
    for node in nodes:
        roles = list(state.nodes[node].asked.get("roles") or ())
        if roles and role not in roles:
            raise Refused(
                f"{node} asks for {' and '.join(roles)}; "
                + (f"{role} is none of them" if role else "say in which role you answer"),
                hint=" or ".join(f"--role {name}" for name in roles),
            )


def outputs_given(
    run: str, step: str, texts: list[str], *, state: Path | None, observed: bool
) -> dict[str, Any]:
    """``name=value`` options as the outputs of a step. Raises Refused, see
    :func:`runbook.engine.outputs.given_outputs`, and NotFound."""
    from runbook.cli.wiring import parse_vars
    from runbook.engine.outputs import given_outputs

    store = open_state(state, must_exist=True)
    folded = load_state(store, find_run(store, run))
    name = folded.plan.nodes[nodes_of(folded, step)[0]].step
    return given_outputs(folded.plan, name, parse_vars(texts, option="--output"),
                         observed=observed)


def _check_reason(state: RunState, nodes: list[str], data: Mapping[str, Any]) -> None:
    """Raises Refused for a yes without a reason, where one is wanted."""
    if str(data.get("why") or data.get("evidence") or "").strip():
        return
    for node in nodes:
        if state.nodes[node].asked.get("reason"):
            raise Refused(
                f"{node} is accepted by name and with a reason only",
                hint="add --why \"…\"; it goes into the journal and the report",
            )


def say(
    run: str, verb: str, *, state: Path | None, step: str | None = None,
    data: Mapping[str, Any] | None = None, only_asked: bool = False,
) -> None:
    """Post a message to a run and tell what will come of it. Raises Refused for an order that
    would never be carried out as the run stands.

    ``only_asked``: of the step's nodes only those with an open question are addressed; raises
    Refused when there is none.
    """
    store = open_state(state, must_exist=True)
    run_id = find_run(store, run)
    folded = load_state(store, run_id)
    if folded.endpoints:
        read_endpoints(folded.endpoints)  # Refused when that sandbox is gone.
    nodes = nodes_of(folded, step) if step else [""]
    if only_asked:
        nodes = [n for n in nodes if folded.nodes[n].question]
        if not nodes:
            raise Refused(
                f"step {step} of run {run_id} asks nothing now",
                hint="open questions are shown by `runbook status`",
            )
        if verb == "approve":
            _check_role(folded, nodes, str((data or {}).get("role", "")))
            _check_reason(folded, nodes, data or {})
    else:
        _check_heard(folded, verb)
        if len(nodes) > 1:
            nodes = _addressed(folded, nodes, verb) or nodes
        if verb == "skip":
            nodes = _skippable(folded, nodes)
    now = real_clock().now()
    for node in nodes:
        store.post(run_id, verb, who=person(), now=now, node=node, data=data)
    holder = store.holder(run_id)
    where = f" {step}" if step else ""
    if holder:
        typer.echo(f"{verb}{where}: told run {run_id}, held by {holder}")
    else:
        typer.echo(f"{verb}{where}: noted; no controller holds run {run_id} now. "
                   f"It is taken up by: runbook resume {run_id}")
