"""``hosts:`` of a step → the hosts. The language is that of :mod:`runbook.model.selector`."""

from __future__ import annotations

from typing import Any

from runbook.model.inventory import Host, Inventory
from runbook.model.selector import HostName, select


class HostPicker:
    """Selects hosts of one inventory and remembers each expression's answer."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._known: dict[str, tuple[Host, ...]] = {}

    def pick(self, wanted: Any) -> tuple[Host, ...]:
        """Hosts of an expression, in the inventory's order; of a list, in the list's order.
        A host that a template chose is that host, whatever else its name may stand for.

        Raises ValueError with a readable message.
        """
        if isinstance(wanted, HostName):
            found_host = self._inventory.get(str(wanted))
            return () if found_host is None else (found_host,)
        if isinstance(wanted, str):
            text = str(wanted)
            if text not in self._known:
                self._known[text] = select(text, self._inventory)
            return self._known[text]
        if isinstance(wanted, list):
            found: dict[str, Host] = {}
            for item in wanted:
                for host in self.pick(item):
                    found.setdefault(host.name, host)
            return tuple(found.values())
        raise ValueError(f"`hosts` is a host expression or a list of them, not {wanted!r}")
