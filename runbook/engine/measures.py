"""Numbers from outside the journal, put into words: outages, acknowledged and lost writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.engine.report_model import Measure
from runbook.model.duration import format_duration

_LABELS = {
    "write_outage": "Write outage, as clients saw it",
    "read_outage": "Read outage, as clients saw it",
    "acknowledged": "Acknowledged writes",
    "writes_acknowledged": "Acknowledged writes",
    "lost": "Acknowledged writes lost",
    "writes_lost": "Acknowledged writes lost",
    "lost_ids": "Lost writes",
    "requests": "Requests of the outside client",
    "errors": "Requests that failed",
    "reads_loaded": "Pages loaded",
    "reads_fallback": "Of them the fallback page",
    "served_by": "Answers by address",
    "first_errors": "Errors seen",
    "real_seconds": "Watched for, real time",
    "virtual_seconds": "Watched for, the run's time",
}
_SECONDS = frozenset({"write_outage", "read_outage", "real_seconds", "virtual_seconds"})
_HAS_TO_BE_NOUGHT = frozenset({"lost", "writes_lost"})


def read_measures(judgement: Mapping[str, Any]) -> tuple[Measure, ...]:
    """One line a measure, in the order given; what is empty or unknown is left out.

    Outages are seconds, or mappings with ``count``, ``longest_real``, ``total_real`` and
    ``longest_virtual`` (seconds). An unknown name is shown as it is.
    """
    found = []
    for name, value in judgement.items():
        text = _text(name, value)
        if text:
            good = value == 0 if name in _HAS_TO_BE_NOUGHT else None
            plain = name.replace("_", " ").capitalize()
            label = _LABELS.get(name, plain)
            found.append(Measure(name=name, label=label, text=text, good=good))
    return tuple(found)


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping) and "longest_real" in value:
        return _outage(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_plain(item) for item in value)
    if name in _SECONDS and isinstance(value, int | float):
        return format_duration(float(value))
    return "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if number else str(value)


def _outage(value: Mapping[str, Any]) -> str:
    count = int(value.get("count", 0))
    if count == 0:
        return "none"
    longest = float(value["longest_real"])
    notes = []
    if count > 1:
        total = format_duration(float(value["total_real"]))
        notes.append(f"the longest of {count}, {total} in all")
    virtual = float(value.get("longest_virtual", longest))
    if abs(virtual - longest) > max(1.0, 0.1 * longest):
        notes.append(f"{format_duration(virtual)} of the run's time")
    return format_duration(longest) + (f" ({'; '.join(notes)})" if notes else "")
