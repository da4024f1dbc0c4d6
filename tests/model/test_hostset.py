"""Many names in few words."""

from __future__ import annotations

import pytest

from runbook.model.hostset import folded


@pytest.mark.parametrize(("names", "expected"), [
    (["web"], "web"),
    (["web1", "web2", "web3"], "web[1-3]"),
    (["node001", "node002", "node004"], "node[001-002,004]"),
    (["web3", "db1", "web1"], "web[1,3], db1"),
    (["web9.east", "web10.east", "web11.east"], "web9.east, web[10-11].east"),
    (["a", "b1", "a"], "a, b1"),
    ([], ""),
])
def test_folded(names: list[str], expected: str) -> None:
    assert folded(names) == expected
