"""A zone that is only known as a file: it can be read and planned with, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runbook.errors import Errored, InvalidInput
from runbook.model.dns import PROVIDERS, Change, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.provider import Outcome, Present, Rejected
from runbook.transports.dns.zonefile import read_zone_file


class FileZone:
    """``provider: file``. ``directory`` is where a relative ``file:`` starts."""

    caps = PROVIDERS["file"]

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        if zone.file is None:
            raise Errored(f"the zone {zone.name} has provider file but no `file:`")
        try:
            return read_zone_file(self._directory / zone.file, zone.name)
        except InvalidInput as fault:
            raise Errored(fault.render()) from fault

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        found = {one.key: one for one in self.records(zone)}
        return {key: found.get(key) for key in keys}

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        return Rejected(f"{zone.name} is only known as a file (provider: file); nothing was sent")

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        return UpdateRight(may=False, seen=zone.caution)
