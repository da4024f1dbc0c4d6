"""Fixtures of the SSH tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transports.ssh_lab import Sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A fresh server, started."""
    server = Sshd.make(tmp_path / "server")
    server.start()
    yield server
    server.stop()
