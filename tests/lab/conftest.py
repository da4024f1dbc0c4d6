"""One lab a module; every test leaves it as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open() as lab:
        yield lab


@pytest.fixture
def lab(opened: Lab) -> Iterator[Lab]:
    """The module's lab, healed after the test."""
    yield opened
    opened.heal()
    for name, machine in opened.machines.items():
        if machine.supervisor is None:
            machine.start()
        opened.mend_link(name)
    for site in ("east", "west", "control"):
        opened.delay(site, 0)
    for machine in opened.machines.values():
        machine.wait_up()
