"""What every test gets: a home of its own; no test sees or leaves anything in a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("RUNBOOK_STATE", "RUNBOOK_WORLD", "RUNBOOK_PLAYBOOKS", "SSH_AUTH_SOCK"):
            patch.delenv(name, raising=False)
        yield home
