"""A provider of octoDNS that keeps its zone in memory, for what no real one does on demand.

It is built on octoDNS's own base class, as every provider is; the real one of the contract test is
octodns-bind at BIND.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any, ClassVar

from octodns.provider.base import BaseProvider
from octodns.record import Record


class Memory(BaseProvider):
    """``store``: by (name, type) the data of octoDNS's records, kept by the class as a server would
    keep it. ``only`` changes are carried out before it breaks."""

    SUPPORTS: ClassVar[set[str]] = {"A", "AAAA", "CNAME", "NS", "TXT"}
    SUPPORTS_GEO = True
    SUPPORTS_DYNAMIC = False
    SUPPORTS_ROOT_NS = True

    store: ClassVar[dict[tuple[str, str], dict[str, Any]]] = {}
    reads: ClassVar[list[str]] = []
    meanwhile: ClassVar[Callable[[], None] | None] = None
    """Called once, before the second read: the one right before the writing."""

    def __init__(
        self, id: str, token: str, only: int | None = None, least_ttl: int = 0,
        settings: str = "",
    ) -> None:
        self.log = getLogger(f"Memory[{id}]")
        super().__init__(id)
        if token != "letmein":
            raise ValueError("this token opens nothing")
        self._only = only
        self._least_ttl = least_ttl
        self._settings = settings

    def populate(self, zone: Any, target: bool = False, lenient: bool = False) -> bool:
        Memory.reads.append("plan" if target else "look")
        if target and Memory.meanwhile is not None:
            once, Memory.meanwhile = Memory.meanwhile, None
            once()
        for (name, _), data in Memory.store.items():
            zone.add_record(Record.new(zone, name, data, source=self, lenient=True), lenient=True)
        return True

    def _include_change(self, change: Any) -> bool:
        return bool(change.new is None or change.new.ttl >= self._least_ttl)

    def _plan_meta(self, existing: Any, desired: Any, changes: Any) -> Any:
        return {"plan": self._settings} if self._settings else None

    def _apply(self, plan: Any) -> None:
        for number, change in enumerate(plan.changes):
            if number == self._only:
                raise RuntimeError("the line is dead")
            record = change.record
            key = (record.name, record._type)
            if change.new is None:
                del Memory.store[key]
            else:
                Memory.store[key] = {"type": record._type, **change.new.data} | (
                    {"octodns": change.new.octodns} if change.new.octodns else {}
                )
