"""Every bad runbook gives exactly the errors on file; see ``regenerate.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.kinds import registry
from tests.loading.regenerate import BAD, cases, errors_of, expected_file


@pytest.mark.parametrize("case", cases(), ids=str)
def test_error_text(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    monkeypatch.delenv("RUNBOOK_PLAYBOOKS", raising=False)
    expected = expected_file(case).read_text(encoding="utf-8")
    assert "error: " in expected
    assert errors_of(case, registry()) == expected


def test_no_expected_text_is_left_over() -> None:
    files = {path.relative_to(BAD) for path in [*BAD.glob("*.txt"), *BAD.glob("*/expected.txt")]}
    assert files == {expected_file(case) for case in cases()}
    assert len(files) >= 45
