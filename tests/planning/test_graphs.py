"""The graph as text: golden, and safe against odd titles."""

from __future__ import annotations

from runbook.model.plan import Plan, PlannedStep
from runbook.planning.graphs import dot, mermaid
from runbook.planning.timeline import build_timeline
from tests.planning.builders import Book

MERMAID = """\
flowchart TD
  s1["a<br/>run · 10s"]
  s2["web<br/>run · 3 hosts · 10s"]
  s3["off<br/>run · skipped"]
  s4["z<br/>run · 10s"]
  s1 ==> s2
  s1 --> s3
  s2 ==> s4
  s3 --> s4
  classDef critical stroke:#c00,stroke-width:3px
  class s1,s2,s4 critical
  classDef skipped stroke-dasharray:4 4,color:#888
  class s3 skipped
"""

DOT = """\
digraph "move" {
  rankdir=TB;
  node [shape=box, fontname="sans-serif"];
  "a" [label="a\\nrun · 10s", color=red, penwidth=2];
  "web" [label="web\\nrun · 3 hosts · 10s", color=red, penwidth=2];
  "off" [label="off\\nrun · skipped", style=dashed, fontcolor=gray];
  "z" [label="z\\nrun · 10s", color=red, penwidth=2];
  "a" -> "web" [color=red, penwidth=2];
  "a" -> "off";
  "web" -> "z" [color=red, penwidth=2];
  "off" -> "z";
}
"""


def _plan() -> Plan:
    return (
        Book().step("a").step("web", hosts="web", after=("a",))
        .step("off", after=("a",), when=False).step("z", after=("web", "off")).plan()
    )


def test_mermaid() -> None:
    assert mermaid(_plan(), build_timeline(_plan())) == MERMAID


def test_dot() -> None:
    assert dot(_plan(), build_timeline(_plan())) == DOT


def test_nothing_breaks_out_of_its_quotes() -> None:
    odd = Plan(runbook='q"\\', steps=(
        PlannedStep(id='a"]; x', kind="k", estimate=1, estimate_undo=1),))
    line = build_timeline(odd)
    assert 's1["a#34;#93;#59; x<br/>k · 1s"]' in mermaid(odd, line)
    assert 'digraph "q\\"\\\\" {' in dot(odd, line)
    assert '"a\\"]; x" [label="a\\"]; x\\nk · 1s"' in dot(odd, line)
