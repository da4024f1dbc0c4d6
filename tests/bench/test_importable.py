"""The benchmarks are not part of the tests, but each can be started: what it takes from the program
is there. Other tools' modules are imported only when they are measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(__file__).parent.glob("bench_*.py")))
def test_a_benchmark_can_be_started(name: str) -> None:
    assert callable(importlib.import_module(f"tests.bench.{name}").main)
