"""One world a test module: building it takes under a second, tests take care to share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.sandbox.handle import WorldHandle, start_world
from tests.sandbox.worlds import SHOP, shop_plan


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorldHandle]:
    directory: Path = tmp_path_factory.mktemp("world") / "w"
    with start_world(shop_plan(), SHOP / "sandbox.yml", directory) as handle:
        yield handle
