"""Rollback coverage as one HTML page that needs nothing else: no script, no file, no network."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined

from runbook.engine.coverage import NOTHING, Coverage
from runbook.model.duration import format_duration
from runbook.views import coverage_words as words


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("runbook.views"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )


def render_coverage(coverage: Coverage) -> str:
    """The whole page. Everything that a host or a runbook said is escaped: it stays text."""
    return _environment().get_template("coverage.html.j2").render(
        c=coverage, words=words, duration=format_duration, cards=_cards(coverage),
        whole_run=[NOTHING, *(c for c in coverage.columns if c.startswith("slow-"))],
        by_step=[c for c in coverage.columns if not c.startswith("slow-")],
    )


def _cards(coverage: Coverage) -> list[tuple[str, str, str, str]]:
    """The few numbers that matter most: (label, value, remark, tone)."""
    undoable, restored = len(coverage.undoable), len(coverage.restored)
    lost = [cell.lost for cell in coverage.cells if cell.lost is not None]
    cards = [(
        "Undoable steps restored", f"{restored} of {undoable}",
        f"{restored / undoable:.0%} covered" if undoable else "nothing acts",
        "good" if restored == undoable else "bad",
    )]
    bad = len(words.bad_cells(coverage))
    played = len(coverage.cells)
    cards.append(("Worlds played", str(played), f"{bad} with a problem" if bad else "all held",
                  "bad" if bad else "good"))
    gone = len(coverage.irreversible)
    if gone:
        cards.append(("No way back", str(gone), "steps, named below", ""))
    if coverage.back_seconds is not None:
        cards.append(("Back from the end", format_duration(coverage.back_seconds),
                      "of the run's time", ""))
    if lost:
        cards.append(("Acknowledged writes lost", str(max(lost)),
                      f"in {len(lost)} worlds with customers", "bad" if max(lost) else "good"))
    cards.append(("Took", format_duration(coverage.real_seconds), "of real time", ""))
    return cards
