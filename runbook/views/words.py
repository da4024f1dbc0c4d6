"""The words, symbols and colours of states and events: one place, the same in every view."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runbook.model.duration import format_duration
from runbook.model.events import Event
from runbook.model.state import NodeState, RunPhase

_N = NodeState

SYMBOL: dict[NodeState, str] = {
    _N.PENDING: "·", _N.STARTED: "▸", _N.APPLIED: "▹", _N.VERIFIED: "✓", _N.FAILED: "✗",
    _N.ERRORED: "!", _N.SKIPPED: "-", _N.IN_DOUBT: "?", _N.UNDOING: "◂", _N.ROLLED_BACK: "↩",
    _N.ROLLBACK_FAILED: "✗", _N.IRREVERSIBLE: "⊘",
}
ASCII_SYMBOL: dict[NodeState, str] = {
    _N.PENDING: ".", _N.STARTED: ">", _N.APPLIED: ">", _N.VERIFIED: "+", _N.FAILED: "x",
    _N.ERRORED: "!", _N.SKIPPED: "-", _N.IN_DOUBT: "?", _N.UNDOING: "<", _N.ROLLED_BACK: "<",
    _N.ROLLBACK_FAILED: "x", _N.IRREVERSIBLE: "#",
}
STYLE: dict[NodeState, str] = {
    _N.PENDING: "dim", _N.STARTED: "bold cyan", _N.APPLIED: "cyan", _N.VERIFIED: "green",
    _N.FAILED: "bold red", _N.ERRORED: "bold yellow", _N.SKIPPED: "dim",
    _N.IN_DOUBT: "bold magenta", _N.UNDOING: "bold yellow", _N.ROLLED_BACK: "yellow",
    _N.ROLLBACK_FAILED: "bold red", _N.IRREVERSIBLE: "bold red",
}
STATE_WORD: dict[NodeState, str] = {
    _N.PENDING: "to come", _N.STARTED: "running", _N.APPLIED: "verifying",
    _N.VERIFIED: "verified", _N.FAILED: "failed", _N.ERRORED: "errored",
    _N.SKIPPED: "skipped", _N.IN_DOUBT: "in doubt", _N.UNDOING: "undoing",
    _N.ROLLED_BACK: "put back", _N.ROLLBACK_FAILED: "not put back",
    _N.IRREVERSIBLE: "irreversible",
}

_P = RunPhase

PHASE_WORD: dict[RunPhase, str] = {
    _P.RUNNING: "running", _P.PAUSED: "paused", _P.HELD: "held", _P.ROLLING_BACK: "rolling back",
    _P.DONE: "done", _P.ROLLED_BACK: "rolled back", _P.NOT_RESTORED: "not restored",
    _P.ABORTED: "aborted",
}
PHASE_STYLE: dict[RunPhase, str] = {
    _P.RUNNING: "bold cyan", _P.PAUSED: "bold yellow", _P.HELD: "bold red",
    _P.ROLLING_BACK: "bold yellow", _P.DONE: "bold green", _P.ROLLED_BACK: "bold yellow",
    _P.NOT_RESTORED: "bold red", _P.ABORTED: "bold red",
}

_EVENT_STYLE: dict[str, str] = {
    "verified": "green", "failed": "bold red", "errored": "bold yellow",
    "in_doubt": "bold magenta", "skipped": "dim", "intent": "cyan", "done": "dim",
    "ask": "bold magenta", "decision": "bold", "held": "bold red", "paused": "yellow",
    "amended": "bold",
    "rollback_started": "bold yellow", "restored": "yellow", "rollback_failed": "bold red",
    "irreversible": "bold red", "breach": "bold red", "note": "dim", "host_opened": "dim",
    "progress": "dim",
}


def event_style(event: Event) -> str:
    """A style name of rich; empty for plain."""
    if event.kind == "run_finished":
        return PHASE_STYLE[RunPhase(event.data["phase"])]
    return _EVENT_STYLE.get(event.kind, "")


def level_word(level: str) -> str:
    return "LIVE" if level == "live" else f"{level} rehearsal"


def one_line(text: str) -> str:
    """The text without line breaks or control characters, fit for a terminal line."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else "�" for c in flat)


_ASCII = str.maketrans({"│": "|", "→": ">", "…": ".", "“": '"', "”": '"', "×": "x", "─": "-"})


def to_ascii(text: str) -> str:
    """The text for a terminal that knows ASCII alone; of the same length."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def describe(event: Event) -> str:
    """What an event says, in a short sentence without its time and its node."""
    say = _SAY.get(event.kind)
    return one_line(say(event, event.data)) if say else event.kind.replace("_", " ")


def _because(data: Mapping[str, Any], key: str = "why") -> str:
    return f": {data[key]}" if data.get(key) else ""


def _by(data: Mapping[str, Any]) -> str:
    return f" by {data['who']}" if data.get("who") else ""


def _try(event: Event) -> str:
    return f" (attempt {event.attempt})" if event.attempt > 1 else ""


def _run_started(e: Event, d: Mapping[str, Any]) -> str:
    faults = f"; on purpose: {'; '.join(map(str, d['faults']))}" if d.get("faults") else ""
    return f"run started{_by(d)}, {level_word(str(d.get('level', 'live')))}{faults}"


def _intent(e: Event, d: Mapping[str, Any]) -> str:
    actions = [str(a.get("action", "action")).replace("_", " ") for a in d.get("actions", ())]
    names = list(dict.fromkeys(actions))
    counted = [f"{n} ×{actions.count(n)}" if actions.count(n) > 1 else n for n in names]
    verb = "undoing" if e.op == "undo" else "started"
    return f"{verb}{_try(e)}: {', '.join(counted)}" if counted else f"{verb}{_try(e)}"


def _done(e: Event, d: Mapping[str, Any]) -> str:
    if d.get("how"):
        return str(d["how"])
    codes = [
        r["data"]["exit_code"] for r in d.get("results", ()) if "exit_code" in r.get("data", {})
    ]
    told = f" (exit {', '.join(map(str, codes))})" if codes else ""
    return f"{'undo ' if e.op == 'undo' else ''}applied{told}; verifying"


def _verified(e: Event, d: Mapping[str, Any]) -> str:
    if d.get("reason"):
        return f"verified, nothing to do: {d['reason']}"
    return f"verified{_try(e)}{_because(d, 'seen')}"


def _ask(e: Event, d: Mapping[str, Any]) -> str:
    roles = ", ".join(map(str, d.get("roles", ())))
    people = f"; {d['quorum']} people" if int(d.get("quorum", 1) or 1) > 1 else ""
    needs = f" [{roles}{people}]" if roles else people
    return f"asks: {d.get('question', '')}{needs}"


def _decision(e: Event, d: Mapping[str, Any]) -> str:
    role = f" ({d['role']})" if d.get("role") else ""
    evidence = f"; evidence: {d['evidence']}" if d.get("evidence") else ""
    given = given_outputs(d.get("outputs"))
    told = f"; {given}" if given else ""
    return f"{d.get('who', 'somebody')}{role}: {d.get('verb', '')}{_because(d)}{evidence}{told}"


def given_outputs(outputs: object) -> str:
    """Values that a person gave in place of a step's own; empty where there are none."""
    if not isinstance(outputs, Mapping) or not outputs:
        return ""
    told = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}"
                     for name, value in outputs.items())
    return f"outputs given by hand: {told}"


def _amended(e: Event, d: Mapping[str, Any]) -> str:
    digests = f"{str(d.get('was', ''))[:12]} → {str(d.get('digest', ''))[:12]}"
    return f"plan amended{_by(d)} ({digests}){_because(d)}; {'; '.join(d.get('changes', ()))}"


def _rollback_started(e: Event, d: Mapping[str, Any]) -> str:
    to = f" to {d['to']}" if d.get("to") else ""
    return f"rollback{to} started{_by(d)}{_because(d)}"


def _breach(e: Event, d: Mapping[str, Any]) -> str:
    if d["what"] == "way back":
        return f"the way back has to begin now → {d['action']}: {d.get('detail', '')}"
    return (
        f"{d['what']} breached: {format_duration(float(d['measured']))} of "
        f"{format_duration(float(d['limit']))} → {d['action']}{_because(d, 'detail')}"
    )


def _late(e: Event, d: Mapping[str, Any]) -> str:
    over = format_duration(float(d["over"]))
    what = {"ask": "refused, unless somebody accepts it", "accepted": "accepted",
            "refused": "refused", "shown": "would be refused in a live run"}
    said = what.get(str(d["action"]), str(d["action"]))
    sums = "" if d.get("who") else f" (takes {format_duration(float(d['takes']))}, " \
        f"{d['takes_by']}; going back {format_duration(float(d['back']))}, {d['back_by']})"
    return f"{d['step']}: going back after it would end {over} too late{sums}: " \
           f"{said}{_by(d)}{_because(d)}"


def _probe(e: Event, d: Mapping[str, Any]) -> str:
    down = format_duration(float(d["down"]) + (
        float(d["until"]) - float(d["since"]) if d["state"] == "down" else 0.0))
    gap = f", {format_duration(float(d['unknown']))} unknown" if d.get("unknown") else ""
    why = f": {d['why']}" if d["state"] != "up" and d.get("why") else ""
    return f"{d['budget']}: {d['state']}, {down} down so far{gap} " \
           f"({d['failed']} of {d['samples']} requests failed){why}"


def _finished(e: Event, d: Mapping[str, Any]) -> str:
    return f"run {PHASE_WORD[RunPhase(d['phase'])]}{_because(d)}"


_SAY: dict[str, Callable[[Event, Mapping[str, Any]], str]] = {
    "run_started": _run_started,
    "resumed": lambda e, d: f"run resumed{_by(d)}",
    "host_opened": lambda e, d: f"{d.get('host', '')}: connection open",
    "intent": _intent,
    "acted": lambda e, d: f"action {int(d['index']) + 1}: {d.get('result', {}).get('detail', '')}",
    "done": _done,
    "verified": _verified,
    "failed": lambda e, d: f"failed{_try(e)}{_because(d, 'error')}",
    "errored": lambda e, d: f"errored{_try(e)}, nothing changed{_because(d, 'error')}",
    "in_doubt": lambda e, d: f"in doubt{_because(d, 'error')}",
    "skipped": lambda e, d: f"skipped{_because(d)}",
    "ask": _ask,
    "answered": lambda e, d: f"answered{_because(d, 'detail')}",
    "decision": _decision,
    "amended": _amended,
    "paused": lambda e, d: f"paused{_because(d)}",
    "continued": lambda e, d: f"goes on{_because(d)}",
    "held": lambda e, d: f"held{_because(d)}",
    "rollback_started": _rollback_started,
    "restored": lambda e, d: f"put back{_because(d, 'how')}",
    "rollback_failed": lambda e, d: f"could not be put back{_because(d, 'error')}",
    "irreversible": lambda e, d: f"irreversible{_because(d)}",
    "breach": _breach,
    "late": _late,
    "probe": _probe,
    "run_finished": _finished,
    "progress": lambda e, d: f"looks{_because(d, 'seen')}",
    "note": lambda e, d: f"note{_because(d, 'text')}",
}
