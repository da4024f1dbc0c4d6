"""What to do next, in words and with the command to type. Pure."""

from __future__ import annotations

import shlex

from pydantic import BaseModel, ConfigDict

from runbook.engine.many import alike, nodes_named
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState, RunPhase

_STUCK = frozenset({NodeState.FAILED, NodeState.ERRORED})


class Advice(BaseModel):
    """One thing a person can do now; ``command`` is empty where there is nothing to type."""

    model_config = ConfigDict(frozen=True)

    text: str
    command: str = ""
    asked: bool = False
    """A step waits for this answer."""


def advise(state: RunState, *, held: bool = True) -> tuple[Advice, ...]:
    """What can be done about the run as it stands, most urgent first; empty when it is done.
    ``held``: a controller holds it, and hears what it is told."""
    run = state.run_id
    asked = [
        a for group in alike(n for n in state.nodes.values() if n.question)
        for a in answers(state, *group)
    ]
    doubt = [
        Advice(
            text=f"find out what became of {'the undo of ' if n.undo_unsettled else ''}{n.node} "
            f"({n.detail or 'outcome unknown'}), then tell the run",
            command=f"runbook resolve {run} {shlex.quote(n.node)} --done   (or --not-done)",
        )
        for n in state.nodes.values()
        if _in_doubt(n)
    ]
    return (*asked, *doubt, *_by_phase(state, held))


def _in_doubt(status: NodeStatus) -> bool:
    """Whether a person has to say what came of its doing, or of its undo: trying once more would
    only ask the same again."""
    return status.state is NodeState.IN_DOUBT or (
        status.state is NodeState.ROLLBACK_FAILED and (status.unsettled or status.undo_unsettled)
    )


def answers(
    state: RunState, status: NodeStatus, *others: NodeStatus
) -> tuple[Advice, ...]:
    """Every way to answer the open question of a node, with what is still missing; and of
    ``others`` of its step that ask the same."""
    asked = status.asked
    who = _meant(status, *others)
    if asked.get("verbs"):
        where = f"{state.run_id} {who}"
        commands = {
            "retry": f"runbook retry {where}",
            "skip": f"runbook skip {where} --why REASON",
            "rollback": f"runbook rollback {state.run_id}",
        }
        known = [verb for verb in asked["verbs"] if verb in commands]
        return tuple(
            Advice(text=verb if i else status.question, command=commands[verb], asked=True)
            for i, verb in enumerate(known)
        )
    since = int(asked.get("seq", 0) or 0)
    yes = [
        d
        for d in state.decisions
        if d.node == status.node and d.seq > since and d.verb == "approve"
    ]
    answered = {d.role for d in yes}
    missing = [str(role) for role in asked.get("roles", ()) if role not in answered]
    quorum = max(1, int(asked.get("quorum", 1) or 1))
    needs = [f"{len({d.who for d in yes})} of {quorum}"] if quorum > 1 else []
    needs += [f"missing: {', '.join(missing)}"] if missing else []
    needs += ["with evidence"] if asked.get("evidence") else []
    needs += ["with a reason"] if asked.get("reason") else []
    command = f"runbook approve {state.run_id} {who}"
    if missing:
        command += f" --role {shlex.quote(missing[0])}"
    if asked.get("evidence"):
        command += " --evidence TEXT"
    if asked.get("reason"):
        command += " --why REASON"
    yes_please = Advice(
        text=status.question + (f" ({'; '.join(needs)})" if needs else ""),
        command=command,
        asked=True,
    )
    return (yes_please,)


def _meant(*nodes: NodeStatus) -> str:
    """How a command names them: one by itself, several by their step."""
    node = nodes[0].node
    return shlex.quote(node if len(nodes) == 1 else node.partition("@")[0])


def _by_phase(state: RunState, held: bool) -> list[Advice]:
    run = state.run_id
    back = Advice(text="put everything back", command=f"runbook rollback {run}")
    stuck = [n for n in state.nodes.values() if n.state in _STUCK]
    logs = [
        Advice(
            text=f"read why {nodes_named(n.node for n in group)} {group[0].state.value}: "
            f"{group[0].detail or 'no detail'}",
            command=f"runbook log {run} {_meant(*group)} --output",
        )
        for group in alike(stuck)[:3]
    ]
    match state.phase:
        case RunPhase.PAUSED if not held:
            again = Advice(text="go on from where it stopped", command=f"runbook resume {run}")
            return [again] if state.rolling_back else [again, back]
        case RunPhase.PAUSED:
            return [Advice(text="let the run go on", command=f"runbook continue {run}"), back]
        case RunPhase.HELD:
            again = Advice(text="mend the cause, then go on", command=f"runbook resume {run}")
            return [*logs, again, back.model_copy(update={"text": "or put everything back"})]
        case RunPhase.ABORTED:
            return [
                *logs,
                Advice(text="go on from where it stopped", command=f"runbook resume {run}"),
                back.model_copy(update={"text": "or put everything back"}),
            ]
        case RunPhase.NOT_RESTORED:
            return _not_restored(state)
        case RunPhase.ROLLED_BACK:
            first = _first_trouble(state)
            why = f"read why {first} failed" if first else "read what happened"
            command = f"runbook log {run} {first} --output" if first else f"runbook log {run}"
            return [
                Advice(text=f"{why}, mend the runbook and rehearse it again", command=command)
            ]
        case _:
            return []


def _not_restored(state: RunState) -> list[Advice]:
    run = state.run_id
    out = [
        Advice(
            text=f"{nodes_named(n.node for n in group)} could not be put back "
            f"({group[0].detail or 'no detail'}): mend the cause, "
            "then try the rollback again; what was done is kept",
            command=f"runbook rollback {run}",
        )
        for group in alike(
            n for n in state.nodes.values()
            if n.state in {NodeState.ROLLBACK_FAILED, NodeState.UNDOING} and not _in_doubt(n)
        )
    ]
    if not out and any(_in_doubt(n) for n in state.nodes.values()):
        out.append(Advice(text="then go on putting back", command=f"runbook rollback {run}"))
    out += [
        Advice(text=f"{nodes_named(n.node for n in group)} cannot be taken back "
               f"({group[0].detail}): decide by hand what follows")
        for group in alike(
            n for n in state.nodes.values() if n.state is NodeState.IRREVERSIBLE
        )
    ]
    return out


def _first_trouble(state: RunState) -> str:
    """The step at which a run that went back had come to its end."""
    ended = [
        n
        for n in state.nodes.values()
        if n.ended_at is not None and n.after is None and n.state is not NodeState.SKIPPED
    ]
    return max(ended, key=lambda n: n.ended_at or 0.0).node if ended else ""
