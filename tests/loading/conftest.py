"""Loading of runbooks that are written in a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.runbook import Runbook

Load = Callable[..., Runbook]
Faults = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text, overrides={}, **{"other/file.yml": text})``; a head is put before steps."""

    def made(
        text: str, overrides: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Runbook:
        for name, content in {**(files or {}), "runbook.yml": text}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(content), encoding="utf-8")
        return load_runbook(tmp_path / "runbook.yml", kinds=registry(), overrides=overrides or {})

    return made


@pytest.fixture
def faults(load: Load) -> Faults:
    """``faults(text)``: ``line:col message`` of every error."""

    def made(
        text: str, overrides: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> list[str]:
        try:
            load(text, overrides, files)
        except InvalidInput as fault:
            return [
                f"{item.position.line}:{item.position.column} {item.message}"
                if item.position else item.message
                for item in fault.diagnostics
            ]
        return []

    return made
