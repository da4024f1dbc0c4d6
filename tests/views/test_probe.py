"""A probe on a terminal: quiet where all is well, and each thing that is not in words."""

from __future__ import annotations

import json

import pytest

from runbook.engine.actions_json import to_json
from runbook.engine.probe import (
    CacheHolds,
    Drift,
    Drifted,
    HostSeen,
    NeedSeen,
    Probed,
    ProbeReport,
)
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, RRset
from runbook.views.probe import probe_json, show_probe, show_round

A = RRset(name="www.shop.example.", rtype="A", ttl=300, rdatas=("198.51.100.10",))
MOVED = A.model_copy(update={"rdatas": ("203.0.113.10",), "ttl": 60})
NEW = RRset(name="new.shop.example.", rtype="TXT", ttl=60, rdatas=('"x"',))


def need(state: str, what: str = "room is there") -> NeedSeen:
    return NeedSeen.model_validate({"what": what, "state": state, "seen": "1G [free]",
                                    "hint": "" if state == "met" else "make room"})


def node(name: str, *needs: NeedSeen, **more: object) -> Probed:
    return Probed.model_validate(
        {"node": name, "step": name.partition("@")[0], "how": "read", "says": "already done",
         "needs": needs, **more})


FLIP = to_json(ChangeRecordSet(zone="shop.example.", changes=(
    Change(before=A, after=MOVED), Change(before=A.with_ttl(1), after=None),
    Change(before=None, after=NEW))))
REPORT = ProbeReport(
    digest="d" * 64,
    nodes=(
        node("quiet@h1", need("met"), need("skipped", "a folder")),
        node("sync@h1", need("unmet"), need("warning", "certificate"), need("unknown", "right")),
        node("flip", would=(FLIP,), undo="yes", says=""),
    ),
    hosts=(
        HostSeen(name="h1", answers=True, needs=(need("warning", "its clock"),)),
        HostSeen(name="h2", answers=False, says="no route"),
    ),
    caches=(
        CacheHolds(resolver="192.0.2.1", asked=2, held=1, left=1200, longest="www A",
                   beyond=("www A",)),
        CacheHolds(resolver="192.0.2.2", asked=2), CacheHolds(resolver="192.0.2.3", asked=1,
                                                              says="it does not tell"),
    ),
    secrets=need("unmet", "every secret"),
)
DRIFT = Drift(since=1_252_731_600.0, same_plan=False, changed=(
    *(Drifted(node=f"sync@h{number}", step="sync", what="mode", then="0644", now="0600")
      for number in (1, 2, 3)),
    Drifted(host="h2", what="it", then="answers", now="does not answer"),
))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def test_all_that_is_not_well_is_said_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    show_probe(REPORT, DRIFT)
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines()]
    for line in (
        "not met: room is there: 1G [free] (make room)", "beware: certificate: 1G [free] (make "
        "room)", "not known: right: 1G [free] (make room)",
        "www.shop.example. A: 198.51.100.10 → 203.0.113.10, TTL 300 → 60",
        'new.shop.example. TXT: no such set → "x" (TTL 60)', "way back: yes",
        "h1: beware: its clock: 1G [free] (make room)", "h2: it does not answer",
        "resolver 192.0.2.2: it holds none of the 2 sets that would change",
        "resolver 192.0.2.3: it does not tell",
        "not met: every secret: 1G [free] (make room)",
        "Needs: 1 met, 2 to beware of, 2 not met, 1 not known, 1 up to earlier steps.",
        "Fidelity 100%: 3 read. Nothing was changed.",
        "mend before the run: sync@h1: room is there: 1G [free]",
        "mend before the run: secrets: every secret: 1G [free]",
        "Since the probe of 2009-09-12 05:00Z, which was of another version of this runbook: "
        "4 things changed",
        "sync@h[1-3]: mode: 0644 → 0600", "h2: it: answers → does not answer",
    ):
        assert line in lines, (line, said)
    assert "www A for 20m more; for longer than their TTL is now: www A" in said
    assert "a folder" not in said, "what is up to earlier steps is counted, and no more"
    assert not REPORT.ok


def test_a_round_is_a_line_with_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    fine = ProbeReport(digest="d", nodes=(node("a", need("met")),))
    show_round(fine, Drift(since=0.0, same_plan=True, changed=()), moment=1_252_731_605.0)
    assert capsys.readouterr().out.splitlines() == [
        "2009-09-12 05:00:05Z  good  fidelity 100%: 1 read; needs: 1 met",
        "Since the probe of 1970-01-01 00:00Z: nothing changed",
    ]
    show_round(REPORT, None, moment=1_252_731_605.0)
    said = capsys.readouterr().out
    assert "NOT good" in said and "mend before the run: sync@h1" in said


def test_json_has_all_of_it() -> None:
    told = json.loads(probe_json(REPORT, DRIFT, moment=5.0))
    assert told["ok"] is False and told["ts"] == 5.0
    assert told["nodes"][0]["needs"][1]["state"] == "skipped"
    assert len(told["drift"]["changed"]) == 4 and told["caches"][0]["left"] == 1200
    assert "\n" not in probe_json(REPORT, None, moment=5.0)
