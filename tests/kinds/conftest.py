from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kinds.local_world import LocalWorld, local_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalWorld]:
    """The controller, with a home folder and a runbook folder below ``tmp_path``."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with local_world(tmp_path) as made:
        yield made
