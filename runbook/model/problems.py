"""Everything wrong with the input, collected, so that all of it is reported at once."""

from __future__ import annotations

from runbook.errors import Diagnostic, InvalidInput, Position


class Problems:
    """A collector. The same message at the same place is kept once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Diagnostic] = {}
        self._closed: set[str] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(
        self, message: str, position: Position | None = None, hint: str = "", *,
        last_word: bool = False,
    ) -> None:
        """``last_word``: whatever is found at this place afterwards only follows from this."""
        place = str(position)
        if place in self._closed:
            return
        if last_word and position is not None:
            self._closed.add(place)
        self._found.setdefault((message, place), Diagnostic(message, position, hint))

    def raise_if_any(self) -> None:
        """Raises InvalidInput with all of them, file by file in the order of their places."""
        if not self._found:
            return
        order: dict[str, int] = {}
        for item in self._found.values():
            order.setdefault(_file(item), len(order))
        raise InvalidInput(
            tuple(sorted(self._found.values(), key=lambda d: (order[_file(d)], *_place(d))))
        )


def _file(item: Diagnostic) -> str:
    return str(item.position.file) if item.position else ""


def _place(item: Diagnostic) -> tuple[int, int]:
    return (item.position.line, item.position.column) if item.position else (0, 0)
