"""The kinds ``alerts.silence`` and ``alerts.unsilence``."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from runbook.errors import Errored, NotFound, Refused
from runbook.kinds._shared import Duration, Names, via_or_from
from runbook.kinds.sql_common import run_of
from runbook.kinds.wait import Moment
from runbook.model.actions import Action, SendRequest
from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*(?:"(.*)"|([^"]*?))\s*')


class _Alertmanager(Kind):
    """What both share: asking Alertmanager's API, version 2, about silences of a run's steps."""

    model_config = ConfigDict(json_schema_extra=via_or_from)

    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.5, timeout=15.0)

    url: str = Field(
        pattern=r"(?i)^https?://[^/\s]", description="Where Alertmanager is, with its path prefix."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="Header fields of every request; secrets may stand "
        'there: `Authorization: "Bearer {{ secrets.alerts }}"`.',
    )
    via: str | None = Field(
        default=None, validation_alias=AliasChoices("via", "from"),
        description="Host of the inventory to ask from. Not given: the controller.",
    )

    def named_hosts(self) -> tuple[str, ...]:
        return () if self.via is None else (self.via,)

    def _silences(self, reads: Reads, matchers: tuple[str, ...]) -> list[dict[str, Any]]:
        """Silences that are in force or to come, with these matchers among theirs.

        Raises Errored where Alertmanager does not answer as it should."""
        query = urlencode([("filter", _written(one)) for one in matchers])
        answer = reads.net.http(
            self._at("silences") + (f"?{query}" if query else ""), headers=self.headers,
            via=self.via,
        )
        if answer.status != 200:
            raise Errored(
                f"Alertmanager at {self.url} does not answer: "
                f"{answer.error or f'status {answer.status}'}",
                hint=answer.body.strip()[:200] or "is it the right address, from there?",
            )
        try:
            found = json.loads(answer.body)
            return [one for one in found if one["status"]["state"] in {"active", "pending"}]
        except (ValueError, KeyError, TypeError) as fault:
            raise Errored(
                f"Alertmanager at {self.url} has more silences than can be read at once, or this "
                "is not Alertmanager", hint="narrower `matchers` ask for fewer",
            ) from fault

    def _at(self, place: str) -> str:
        return f"{self.url.rstrip('/')}/api/v2/{place}"

    def _post(self, silence: dict[str, Any]) -> SendRequest:
        return SendRequest(
            method="POST", url=self._at("silences"), body=json.dumps(silence, sort_keys=True),
            headers={"Content-Type": "application/json", **self.headers}, via=self.via,
            idempotent=True,
        )

    def _expire(self, ids: list[str]) -> tuple[SendRequest, ...]:
        return tuple(
            SendRequest(
                method="DELETE", url=self._at(f"silence/{quote(one, safe='')}"),
                # 404: it is gone already, and forgotten.
                headers=self.headers, via=self.via, ok_status=(200, 404), idempotent=True,
            )
            for one in ids
        )


class AlertsSilence(_Alertmanager):
    """Silence alerts in Prometheus Alertmanager, for a span of the move.

    The silence gets matchers and an end: by that it is over even where everything else fails. The
    step knows its own silence by a mark in the comment and never touches another one. `extend`
    names an earlier silence step, and gives that silence a later end.

    An `alerts.unsilence` step has to follow, and may not be conditional or be left to fail: a plan
    without one is refused, so no run is complete while alerts are silent. When the run goes back,
    the silence is ended when all that came after it is undone; with `on_error: keep` it stands
    until its end, so that the back-out calls nobody.

    Alerts are no part of the move: `on_failure: continue` on the step goes on where Alertmanager
    cannot be reached.
    """

    name: ClassVar[str] = "alerts.silence"
    output_names: ClassVar[dict[str, str]] = {
        "id": "Alertmanager's id of the silence", "until": "its end, ISO 8601",
        "mark": "what it is known by", "matchers": "its matchers",
    }
    example: ClassVar[str] = """\
- id: quiet
  kind: alerts.silence
  with:
    url: http://alertmanager.example:9093
    matchers: ['site="east"', 'alertname=~"Shop.*"']
    for: 3h
    comment: The shop moves to the west.
- id: loud
  kind: alerts.unsilence
  with: {url: "http://alertmanager.example:9093", of: quiet}
"""

    matchers: Names = Field(
        default=(), description="Which alerts: `name=\"value\"`, with `=`, `!=`, `=~` or `!~`; "
        "all of them must match.",
    )
    extend: str | None = Field(
        default=None, description="Id of an earlier silence step whose silence gets a new end."
    )
    duration: Duration | None = Field(
        default=None, alias="for", gt=0, description="How long, from the start of the step."
    )
    until: Moment | None = Field(
        default=None, description="Until when: ISO 8601 with an offset from UTC, or Unix seconds.",
    )
    comment: str = Field(default="", description="What people read at the silence.")
    created_by: str = Field(default="runbook", description="Who it is said to be by.")
    on_error: Literal["restore", "keep"] = Field(
        default="restore", description="When the run goes back: end the silence, or leave it "
        "until its end.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.duration is None) == (self.until is None):
            raise ValueError("give either `for` or `until`")
        if (self.extend is None) == (not self.matchers):
            raise ValueError("give `matchers`, or `extend` with the id of a silence step")
        for one in self.matchers:
            _parsed(one)
        return self

    def references(self) -> tuple[str, ...]:
        return () if self.extend is None else (self.extend,)

    def settled_by(self) -> str:
        return AlertsUnsilence.name if self.extend is None else ""

    def observe(self, reads: Reads) -> Observation:
        mark, matchers = _mark(reads.key), self.matchers
        if self.extend is not None:
            given = _outputs(reads, self.extend)
            mark, matchers = given["mark"], tuple(given["matchers"])
        ours = _marked(self._silences(reads, matchers), mark)
        state: dict[str, Any] = {"silenced": bool(ours)}
        if self.extend is not None:
            state["until"] = max((one["endsAt"] for one in ours), default="")
        evidence = {"silences": ours, "mark": mark, "matchers": list(matchers)}
        return Observation(state=state, evidence=evidence, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        until = self._until(before)
        if until <= before.at:
            raise Refused(f"the silence would have ended at {_iso(until)}, which is past")
        ours = before.evidence["silences"]
        if self.extend is not None:
            if not ours:
                raise Refused(
                    f"there is no silence of {self.extend!r} any more: it has ended",
                    hint="silence anew, with `matchers`",
                )
            late = [one for one in ours if _unix(one["endsAt"]) < until]
            if not late:
                return Planned(reason=f"already done: it ends at {before.state['until']}")
            return Planned(actions=tuple(self._ending(one, until) for one in late))
        if ours:
            return Planned(reason=f"already done: silence {ours[0]['id']}")
        silence = {
            "matchers": [_parsed(one) for one in self.matchers], "startsAt": _iso(before.at),
            "endsAt": _iso(until), "createdBy": self.created_by,
            "comment": f"{self.comment} {before.evidence['mark']}".strip(),
        }
        return Planned(actions=(self._post(silence),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ours = after.evidence["silences"]
        if not ours:
            return Verdict(ok=False, seen="Alertmanager has no silence of this step")
        one = max(ours, key=lambda silence: _unix(silence["endsAt"]))
        outputs = {"id": one["id"], "until": one["endsAt"], "mark": after.evidence["mark"],
                   "matchers": after.evidence["matchers"]}
        left = format_duration(_unix(one["endsAt"]) - after.at)
        if self.extend is not None and _unix(one["endsAt"]) + 1 < self._until(before):
            return Verdict(ok=False, seen=f"it still ends at {one['endsAt']}", outputs=outputs)
        if one["state"] != "active":
            return Verdict(ok=False, seen=f"silence {one['id']} is {one['state']}",
                           outputs=outputs)
        return Verdict(ok=True, outputs=outputs,
                       seen=f"{', '.join(after.evidence['matchers'])} silent for {left}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """As it will be, in kind; :meth:`undo_from` knows the silence itself."""
        if self.on_error == "keep":
            return ()
        if self.extend is not None:
            return self._back(before, before)
        return self._expire(["(its id)"])

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        if self.on_error == "keep":
            return ()
        if self.extend is not None:
            return self._back(before, now)
        return self._expire([one["id"] for one in now.evidence["silences"]])

    def preview(self) -> tuple[str, ...]:
        end = (f"for {format_duration(self.duration)}" if self.duration is not None
               else f"until {_iso(self.until or 0.0)}")
        what = f"the silence of {self.extend}" if self.extend else ", ".join(self.matchers)
        verb = "extend" if self.extend else "silence"
        keeps = ("on the way back it stays until its end",) if self.on_error == "keep" else ()
        return (f"{verb} {what} {end}, at {self.url}", *keeps)

    def _until(self, before: Observation) -> float:
        return self.until if self.until is not None else before.at + (self.duration or 0.0)

    def _ending(self, silence: dict[str, Any], until: float) -> SendRequest:
        """The same silence, with another end. Alertmanager keeps the id where it can."""
        kept = {key: silence[key] for key in
                ("id", "matchers", "startsAt", "createdBy", "comment")}
        return self._post({**kept, "endsAt": _iso(until)})

    def _back(self, before: Observation, now: Observation) -> tuple[Action, ...]:
        """The end it had, where that is still to come; else it ends now."""
        was = before.state.get("until")
        if not was:
            return ()
        return tuple(
            self._ending(one, max(_unix(was), now.at + 1)) for one in now.evidence["silences"]
        )


class AlertsUnsilence(_Alertmanager):
    """End the silence that an `alerts.silence` step made; other silences stay.

    Undone by a silence with the same matchers and the same end, where that is still to come.
    """

    name: ClassVar[str] = "alerts.unsilence"
    example: ClassVar[str] = """\
- id: quiet
  kind: alerts.silence
  with: {url: "http://alertmanager.example:9093", matchers: 'site="east"', for: 3h}
- id: loud
  kind: alerts.unsilence
  with: {url: "http://alertmanager.example:9093", of: quiet}
"""

    of: str = Field(min_length=1, description="Id of the alerts.silence step.")

    def references(self) -> tuple[str, ...]:
        return (self.of,)

    def observe(self, reads: Reads) -> Observation:
        try:
            matchers = tuple(_outputs(reads, self.of)["matchers"])
        except NotFound:
            # That step failed, or was left out. What it may have made is known by its mark.
            matchers = ()
        mark = _mark(f"{run_of(reads)}/{self.of}")
        ours = _marked(self._silences(reads, matchers), mark)
        return Observation(
            state={"silenced": bool(ours)}, evidence={"silences": ours}, at=reads.now()
        )

    def plan(self, before: Observation) -> Planned:
        ours = before.evidence["silences"]
        if not ours:
            return Planned(reason="already done: the silence has ended")
        return Planned(actions=self._expire([one["id"] for one in ours]))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        left = after.evidence["silences"]
        told = f"silence {left[0]['id']} is {left[0]['state']}" if left else "the silence has ended"
        return Verdict(ok=not left, seen=told)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return self._anew(before, before.at)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        return self._anew(before, now.at)

    def preview(self) -> tuple[str, ...]:
        return (f"end the silence of {self.of}, at {self.url}",)

    def _anew(self, before: Observation, now: float) -> tuple[Action, ...]:
        return tuple(
            self._post({
                **{key: one[key] for key in ("matchers", "createdBy", "comment", "endsAt")},
                "startsAt": _iso(now),
            })
            for one in before.evidence.get("silences", ()) if _unix(one["endsAt"]) > now
        )


def _parsed(matcher: str) -> dict[str, Any]:
    """Raises ValueError."""
    found = _MATCHER.fullmatch(matcher)
    if found is None:
        raise ValueError(f"{matcher!r} is not a matcher; write it like site=\"east\"")
    name, operator, quoted, bare = found.groups()
    return {
        "name": name, "value": bare if quoted is None else quoted,
        "isRegex": "~" in operator, "isEqual": not operator.startswith("!"),
    }


def _written(matcher: str) -> str:
    found = _MATCHER.fullmatch(matcher)
    if found is None:
        raise ValueError(matcher)
    name, operator, quoted, bare = found.groups()
    return f'{name}{operator}"{bare if quoted is None else quoted}"'


def _mark(key: str) -> str:
    return f"[runbook {key}]"


def _marked(silences: list[dict[str, Any]], mark: str) -> list[dict[str, Any]]:
    """Those with the mark, in what is needed of them."""
    return [
        {"id": one["id"], "state": one["status"]["state"],
         **{key: one[key] for key in ("matchers", "startsAt", "endsAt", "createdBy", "comment")}}
        for one in silences if str(one["comment"]).endswith(mark)
    ]


def _outputs(reads: Reads, step: str) -> dict[str, Any]:
    found = dict(reads.outputs(step))
    if "mark" not in found or "matchers" not in found:
        raise NotFound(
            f"the step {step!r} has made no silence", hint="name an alerts.silence step"
        )
    return found


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
