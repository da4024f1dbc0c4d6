"""Write the expected error text of every bad runbook: ``python -m tests.loading.regenerate``.

Look at the difference before keeping it: these texts are what people read at night.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.kind import Kind

BAD = Path(__file__).parent / "bad"


def cases() -> list[Path]:
    """Bad runbooks, relative to their folder: ``NN-name.yml`` or ``NN-name/runbook.yml``."""
    found = [*BAD.glob("*.yml"), *BAD.glob("*/runbook.yml")]
    return sorted(path.relative_to(BAD) for path in found)


def expected_file(case: Path) -> Path:
    """Where the expected text of a case is kept, relative to the folder."""
    if case.name == "runbook.yml":
        return case.with_name("expected.txt")
    return case.with_suffix(".txt")


def errors_of(case: Path, kinds: Mapping[str, type[Kind]]) -> str:
    """The error text, read in the folder of the cases so that file names are short."""
    try:
        load_runbook(case, kinds=kinds)
    except InvalidInput as fault:
        return fault.render() + "\n"
    return "valid\n"


def main() -> None:
    os.chdir(BAD)
    for case in cases():
        expected_file(case).write_text(errors_of(case, registry()), encoding="utf-8")


if __name__ == "__main__":
    main()
