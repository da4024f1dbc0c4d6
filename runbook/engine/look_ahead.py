"""The first look after a step's actions, taken while their outcome is written to the disk."""

from __future__ import annotations

import threading

from runbook.model.kind import Kind
from runbook.model.observation import Observation
from runbook.model.ports import Reads


class LookAhead:
    """Reading changes nothing, so it need not wait for the disk; both together take as long as
    the longer one. What is concluded from it is written after the outcome, as ever."""

    def __init__(self, kind: Kind, reads: Reads) -> None:
        self._kind, self._reads = kind, reads
        self._found: Observation | None = None
        self._thread = threading.Thread(target=self._look, name="look ahead")
        self._thread.start()

    def _look(self) -> None:
        try:
            self._found = self._kind.observe(self._reads)
        except Exception:  # noqa: BLE001 - it is looked once more by who verifies, and raised there
            self._found = None

    def seen(self) -> Observation | None:
        """None where nothing was learned."""
        self._thread.join()
        return self._found
