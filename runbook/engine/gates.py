"""Questions to people: asked once, journaled, answered from any terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.engine.context import ANSWER_LOOK_EVERY, LeftOut, RunContext, Stopping
from runbook.engine.waits import left_out
from runbook.journal import Draft, Message
from runbook.model.actions import ActionResult, AskOperator
from runbook.model.runstate import Decision


def ask_people(
    ctx: RunContext, node: str, op: str, attempt: int, ask: AskOperator
) -> ActionResult:
    """Ask and wait until enough people have said yes, or one has said no.

    Answers given before a restart count: they are in the journal. Raises Stopping, and LeftOut
    when the node that asks was left out: there is nothing to answer any more.
    """
    asked: dict[str, Any] = {
        "question": ask.question, "roles": list(ask.roles), "quorum": ask.quorum,
        "evidence": ask.evidence, "reason": ask.reason,
    }
    first_seq = _open_question(ctx, node, op, attempt, asked)
    if not left_out(ctx, node, op):
        ctx.observer.on_question(node, asked)
    while True:
        if left_out(ctx, node, op):
            raise LeftOut
        for message in ctx.answers(node):
            _journal(ctx, message)
        said = [d for d in ctx.state.decisions if d.node == node and d.seq > first_seq]
        result = _weigh(ask, said)
        if result is not None:
            ctx.node_event("answered", node, attempt, op, detail=result.detail)
            return result
        if ctx.halt.is_set():
            raise Stopping
        with ctx.signals.changed:
            ctx.signals.changed.wait(ANSWER_LOOK_EVERY)


def _open_question(
    ctx: RunContext, node: str, op: str, attempt: int, asked: Mapping[str, Any]
) -> int:
    """Sequence number of the question: of the one still open from before, or of a new one."""
    status = ctx.status(node)
    if status.question == asked["question"] and "seq" in status.asked:
        return int(status.asked["seq"])
    for message in ctx.answers(node):
        ctx.append(Draft("note", node, data={
            "text": f"{message.verb} by {message.who} came before this was asked: "
            f"{asked['question']}"}), taken=(message.id,))
    after = ctx.state.last_seq
    ctx.node_event("ask", node, attempt, op, **asked, seq=after)
    return after


def _journal(ctx: RunContext, message: Message) -> None:
    ctx.append(
        Draft("decision", node=message.node,
              data={**message.data, "verb": message.verb, "who": message.who}),
        taken=(message.id,),
    )


def reason_of(said: Decision) -> str:
    """Why somebody said so: the reason, or what was given as evidence."""
    return said.why.strip() or str(said.data.get("evidence") or "").strip()


def _weigh(ask: AskOperator, said: list[Decision]) -> ActionResult | None:
    for d in said:
        if d.verb == "reject":
            return ActionResult(ok=False, detail=f"rejected by {d.who}: {d.why or 'no reason'}")
    yes = [d for d in said if d.verb == "approve"
           and (not ask.evidence or str(d.data.get("evidence", "")).strip())
           and (not ask.reason or reason_of(d))]
    people = {d.who for d in yes}
    missing = [role for role in ask.roles if role not in {d.role for d in yes}]
    if len(people) < ask.quorum or missing:
        return None
    names = ", ".join(f"{d.who}{f' ({d.role})' if d.role else ''}" for d in yes)
    evidence = [str(d.data["evidence"]) for d in yes if d.data.get("evidence")]
    return ActionResult(ok=True, detail=f"approved by {names}", data={"evidence": evidence})
