"""YAML: values, and that nothing but a diagnostic ever comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.loading.fields import Context
from runbook.loading.inventory import read_inventory_file
from runbook.loading.scalars import Trap, resolve_plain
from runbook.loading.steps import STEP_KEYS
from runbook.loading.yaml import parse
from runbook.model.problems import Problems


def value_of(text: str) -> Any:
    problems = Problems()
    document = parse(text.encode(), Path("f.yml"), problems)
    problems.raise_if_any()
    assert document is not None
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", "x"), ("5", 5), ("-5", -5), ("+5", 5), ("0", 0), ("0o755", 493), ("0xff", 255),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("2009-09-12", "2009-09-12"),
        ("2009-09-12 01:00", "2009-09-12 01:00"), ("1.2.3.4", "1.2.3.4"), ("10m", "10m"),
        ("127.0.0.1:53", "127.0.0.1:53"), ("8080:80", "8080:80"), ("yesterday", "yesterday"),
        ("nothing", "nothing"), ("-", "-"), ("0.0", 0.0), ("1h30m", "1h30m"), ("::1", "::1"),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["no", "Yes", "ON", "off", "y", "N", "22:30", "1:30:00", "0777", "010", "1_000", ".inf",
     ".NaN", "1e999", "9" * 5000, "-0644"],
)
def test_traps(text: str) -> None:
    found = resolve_plain(text)
    assert isinstance(found, Trap)
    assert found.hint


def test_quoted_and_block_scalars_are_text() -> None:
    found = value_of("a: 'no'\nb: \"22:30\"\nc: |\n  off\n")
    assert found == {"a": "no", "b": "22:30", "c": "off\n"}


def test_merge_keys_and_anchors() -> None:
    assert value_of("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}\n") == {
        "a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2, "z": 4},
    }


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", Path("f"), Problems()).value == {  # type: ignore[union-attr]
        "a": 1, "b": 2,
    }


def test_words_are_booleans_for_ansible_alone() -> None:
    document = parse(b"a: yes\nb: off\n", Path("f"), Problems(), words=True)
    assert document is not None
    assert document.value == {"a": True, "b": False}


simple = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@given(simple)
@settings(max_examples=150, deadline=None)
def test_what_is_dumped_is_read_back(value: Any) -> None:
    """Against the library's own writer, with every scalar quoted."""
    text = pyyaml.safe_dump({"v": value}, default_style='"', allow_unicode=True)
    problems = Problems()
    document = parse(text.encode("utf-8", "surrogatepass"), Path("f"), problems)
    if document is not None and not problems:
        assert document.value == pyyaml.load(text, Loader=pyyaml.BaseLoader)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_values_or_diagnostics(data: bytes) -> None:
    problems = Problems()
    document = parse(data, Path("f.yml"), problems)
    assert document is not None or len(problems) > 0


HOSTILE = st.sampled_from(
    ["{{ x }}", "{{", "{% if %}", "{{ outputs.a.b }}", "{{ 10 ** 10 ** 9 }}", "a\0b", "..", "/",
     "window.start - 1h", "no", "shell", "dns.flip", "east and", "\u2028", "10m", "x" * 5000,
     "{{ host.name }}", "{{ secrets.a }}", "one", "2009-09-12 01:00", "9999-12-31 23:59"]
)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | HOSTILE
words = st.sampled_from([*STEP_KEYS, "parallel", "env", "command", "from", "to", "limit", "a"])
tree = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
step = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(STEP_KEYS, tree) | {
        "id": st.sampled_from(["one", "two", "three"]),
        "kind": st.sampled_from(sorted(registry())),
        "parallel": tree,
    },
)
document = st.fixed_dictionaries(
    {"runbook": st.just("a") | tree, "steps": st.lists(step, max_size=4) | tree},
    optional={
        "title": tree, "owner": tree, "policy": tree, "budgets": tree, "inventory": tree,
        "vars": tree, "secrets": tree, "zones": tree,
        "window": tree | st.fixed_dictionaries(
            {"start": leaf, "duration": leaf, "timezone": st.just("UTC") | leaf}
        ),
    },
)


@given(document)
@settings(max_examples=250, deadline=None)
def test_any_document_loads_or_is_invalid(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    text = pyyaml.safe_dump(value, allow_unicode=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_runbook(path, kinds=registry())
    except InvalidInput as fault:
        assert fault.diagnostics
        assert fault.render()


@given(st.text(max_size=400) | tree.map(lambda v: pyyaml.safe_dump(v, allow_unicode=True)))
@settings(max_examples=250, deadline=None)
def test_any_inventory_is_read_or_invalid(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    for name in ("inventory", "inventory.yml", "inventory.ini"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        read_inventory_file(path, Problems())


def test_a_key_of_another_line_is_not_taken_for_a_name() -> None:
    found = parse(b"a: '{{ old }}'\nb: 'older {{ old }}'\n", Path("f"), Problems())
    assert found is not None
    assert found.find(("b",), "old").column == 14
    assert Context(found, Problems()).at(("b",)).column == 4
