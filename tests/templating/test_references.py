"""Names a template reads."""

from __future__ import annotations

import pytest

from runbook.errors import TemplateFault
from runbook.templating.references import references


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("plain", []),
        ("{{ outputs.a.b }}", [("outputs", "a", "b")]),
        ("{{ outputs['a-b'].c }}", [("outputs", "a-b", "c")]),
        ("{{ outputs.a.by_host[host.name].x }}",
         [("outputs", "a", "by_host"), ("host", "name")]),
        ("{% for x in xs %}{{ x.y }}{% endfor %}", [("xs",)]),
        ("{% set x = y.z %}{{ x.q }}", [("y", "z")]),
        ("{{ a.b | join(c) }}", [("a", "b"), ("c",)]),
    ],
)
def test_paths(text: str, paths: list[tuple[str, ...]]) -> None:
    assert [reference.path for reference in references(text)] == paths


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("{{ a | default('x') }}", {"a"}), ("{{ a is defined }}", {"a"}),
        ("{{ a if b else c }}", {"a", "c"}), ("{{ b and a }}", {"a"}),
        ("{% if b %}{{ a }}{% endif %}", {"a"}), ("{{ b | default(a) }}", {"b"}),
        ("{{ a + b }}", set()),
    ],
)
def test_what_may_be_absent(text: str, guarded: set[str]) -> None:
    assert {ref.path[0] for ref in references(text) if ref.guarded} == guarded


def test_a_malformed_template_is_a_fault() -> None:
    with pytest.raises(TemplateFault, match="not a valid template"):
        references("{{ a")
