"""Sets that stand in a zone and that no server gives (RFC 5936 section 3.5). No network.

Below a delegation only the NS set, DS and the addresses of its name servers (glue) are given; below
a DNAME nothing is. What is left there from before leads nobody anywhere until that is lifted.
"""

from __future__ import annotations

from collections.abc import Iterable

from runbook.model.dns import RRset


def split_occluded(
    records: Iterable[RRset], origin: str
) -> tuple[tuple[RRset, ...], tuple[RRset, ...]]:
    """(what is given, what is occluded) of one zone; ``origin`` is its absolute name."""
    every = tuple(records)
    cuts = {one.name: one.rdatas for one in every if one.rtype == "NS" and one.name != origin}
    aliased = {one.name for one in every if one.rtype == "DNAME"}

    def given(one: RRset) -> bool:
        above = _above(one.name)
        if any(name in aliased for name in above[1:]):
            return False
        # The topmost delegation decides: what lies below it is another server's.
        cut = next((name for name in reversed(above) if name in cuts), None)
        if cut is None or (one.name == cut and one.rtype in {"NS", "DS"}):
            return True
        return one.rtype in {"A", "AAAA"} and one.name in cuts[cut]

    shown = tuple(one for one in every if given(one))
    return shown, tuple(one for one in every if not given(one))


def _above(name: str) -> list[str]:
    """The name, and every name above it."""
    labels = name.rstrip(".").split(".")
    return [".".join(labels[at:]) + "." for at in range(len(labels))]
