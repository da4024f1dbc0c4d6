"""A rollback coverage to show, with everything in it that can be."""

from __future__ import annotations

from runbook.engine.coverage import NOTHING, Cell, Coverage, Outcome, StepCoverage


def a_coverage(why: str = "zone shop.example: + www A 203.0.113.10 (changed by flip)") -> Coverage:
    """One step of each sort, one cell of each outcome."""
    steps = (
        StepCoverage(step="freeze", kind="file", acts=True, undo_seconds=0.1,
                     touched=("web:shop/maintenance.on",)),
        StepCoverage(step="mail", kind="shell", acts=True, no_way_back="the mail is out"),
        StepCoverage(step="flip", title="Point at the new side", kind="dns.flip", acts=True,
                     undo_seconds=0.3),
        StepCoverage(step="clean", kind="shell", acts=True, undo_missing=True,
                     no_way_back="no undo command was given"),
        StepCoverage(step="look", kind="assert"),
    )
    cells = (
        Cell(column=NOTHING, step="", outcome=Outcome.IRREVERSIBLE, run="shop-aaaaaa",
             back_seconds=3608.0, irreversible=("mail",), lost=0),
        Cell(column="fail", step="freeze", outcome=Outcome.RESTORED, run="shop-bbbbbb",
             back_seconds=0.4, lost=0, real_seconds=2.0),
        Cell(column="fail", step="mail", outcome=Outcome.IRREVERSIBLE, run="shop-cccccc",
             back_seconds=0.5, irreversible=("mail",), why="no way back: mail", lost=0),
        Cell(column="fail", step="flip", outcome=Outcome.NOT_RESTORED, run="shop-dddddd",
             why=why, not_restored=("flip",), leftovers=("www",), lost=0),
        Cell(column="kill-effect", step="look", outcome=Outcome.NOT_REACHED, run="shop-eeeeee",
             why="the run did not come to where it would have struck"),
    )
    return Coverage(
        runbook="shop", title="Move the shop", digest="0" * 64, level="sandbox",
        columns=("fail", "kill-effect"), steps=steps, cells=cells, real_seconds=12.0,
        back_seconds=3608.0,
    )
