"""The JSON Schema takes what the loader takes, and the starter is valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.loading.schema import json_schema
from runbook.loading.starter import starter_files
from runbook.loading.yaml import read_document
from runbook.model.problems import Problems
from runbook.planning import build_plan

ROOT = Path(__file__).parents[2]
GOOD = Path(__file__).parent / "good.yml"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = json_schema(registry())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def value_of(path: Path) -> Any:
    problems = Problems()
    document = read_document(path, problems)
    problems.raise_if_any()
    assert document is not None
    return document.value


@pytest.mark.parametrize(
    "path", [GOOD, *sorted(ROOT.glob("examples/*/runbook.yml"))], ids=lambda p: p.parent.name
)
def test_good_runbooks_match(path: Path, validator: jsonschema.Draft7Validator) -> None:
    load_runbook(path, kinds=registry())
    found = [f"{list(e.path)}: {e.message}" for e in validator.iter_errors(value_of(path))]
    assert found == []


@pytest.mark.parametrize(
    "change",
    [
        {"runbok": "x"},
        {"runbook": "Not An Id"},
        {"steps": []},
        {"steps": [{"id": "a"}]},
        {"steps": [{"id": "a", "kind": "shel"}]},
        {"steps": [{"id": "a", "kind": "shell", "with": {"comand": "x"}}]},
        {"steps": [{"id": "a", "kind": "shell", "playbook": "b"}]},
        {"steps": [{"parallel": [{"id": "a", "kind": "shell", "timeout": "soon"}]}]},
        {"policy": {"on_failure": "panic"}},
        {"budgets": {"a": {"from": "x.start"}}},
        {"secrets": {"a": {"env": "X", "file": "y"}}},
    ],
    ids=str,
)
def test_bad_values_do_not_match(
    change: dict[str, Any], validator: jsonschema.Draft7Validator
) -> None:
    assert not validator.is_valid({**value_of(GOOD), **change})


def test_every_key_is_described() -> None:
    schema = json_schema(registry())
    step = schema["definitions"]["step"]["else"]
    for properties in (schema["properties"], step["properties"]):
        assert all(value["description"] for value in properties.values())
    for name in registry():
        described = schema["definitions"][f"with:{name}"]["properties"]
        assert all("description" in value for value in described.values()), name


def test_the_starter_is_valid(tmp_path: Path, validator: jsonschema.Draft7Validator) -> None:
    files = starter_files(registry())
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    runbook = load_runbook(tmp_path / "runbook.yml", kinds=registry())
    assert len(build_plan(runbook, kinds=registry()).nodes) == len(runbook.steps)
    assert validator.is_valid(value_of(tmp_path / "runbook.yml"))
    assert files["runbook.yml"].startswith("# yaml-language-server: $schema=./runbook.schema.json")
