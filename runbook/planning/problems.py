"""Everything wrong with a runbook, collected, so that it is reported at once."""

from __future__ import annotations

from runbook.errors import Diagnostic, InvalidInput, Position


class Problems:
    """A collector. The same message at the same place is kept once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Diagnostic] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, message: str, position: Position | None, hint: str = "") -> None:
        self._found.setdefault((message, str(position)), Diagnostic(message, position, hint))

    def raise_if_any(self) -> None:
        """Raises InvalidInput with all of them, in file order."""
        if self._found:
            raise InvalidInput(tuple(sorted(self._found.values(), key=_place)))


def _place(item: Diagnostic) -> tuple[str, int, int]:
    at = item.position
    return (str(at.file), at.line, at.column) if at else ("", 0, 0)
