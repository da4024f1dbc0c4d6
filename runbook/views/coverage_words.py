"""The words and symbols of rollback coverage: one place, the same in every view."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.engine.coverage import NOTHING, Cell, Coverage, Outcome, StepCoverage, no_undo
from runbook.model.duration import format_duration

MARK: dict[Outcome, str] = {
    Outcome.RESTORED: "✓", Outcome.IRREVERSIBLE: "⊘", Outcome.NOT_RESTORED: "✗",
    Outcome.LOST: "✗", Outcome.BROKEN: "✗", Outcome.NOT_REACHED: "·",
}
ASCII_MARK: dict[Outcome, str] = {
    Outcome.RESTORED: "+", Outcome.IRREVERSIBLE: "#", Outcome.NOT_RESTORED: "x",
    Outcome.LOST: "x", Outcome.BROKEN: "x", Outcome.NOT_REACHED: ".",
}
WORD: dict[Outcome, str] = {
    Outcome.RESTORED: "restored", Outcome.IRREVERSIBLE: "no way back, as declared",
    Outcome.NOT_RESTORED: "NOT restored", Outcome.LOST: "writes lost",
    Outcome.BROKEN: "not survived", Outcome.NOT_REACHED: "not reached",
}
_FEW = 4
WHOLE_RUN = "(whole run)"
LEGEND = ("✓ the world is as it was before; the time is what going back took, of the run's time. "
          "Empty: the fault cannot strike there, or was not asked for.")


def column_title(column: str) -> str:
    """What happens in a column."""
    titles = {NOTHING: "no fault", "fail": "fails", "kill-intent": "killed before",
              "kill-effect": "killed after", "kill-undo": "killed undoing", "cut": "SSH cut"}
    return titles.get(column) or column.removeprefix("slow-") + " slower"


def column_meaning(column: str) -> str:
    meanings = {
        NOTHING: "nothing goes wrong, and from the end all is taken back",
        "fail": "the step fails right after it took effect, and the run goes back",
        "kill-intent": "the controller is killed (SIGKILL) when the step is journaled and not "
                       "begun; resumed, to the end, and back",
        "kill-effect": "the controller is killed when the step took effect and the journal does "
                       "not know; resumed, to the end, and back",
        "kill-undo": "on the way back from the end the controller is killed when the step's undo "
                     "took effect and the journal does not know; resumed",
        "cut": "the SSH connection breaks when the step's command has been sent; to the end, and "
               "back",
    }
    return meanings.get(column) or "everything outside is slower; to the end, and back"


def mark(cell: Cell, *, ascii_only: bool = False) -> str:
    return (ASCII_MARK if ascii_only else MARK)[cell.outcome]


def cell_text(cell: Cell, *, ascii_only: bool = False) -> str:
    """``✓ 1m 06s``, or the symbol and what is wrong."""
    shown = mark(cell, ascii_only=ascii_only)
    if cell.good and cell.back_seconds is not None:
        return f"{shown} {format_duration(cell.back_seconds)}"
    return shown if cell.outcome is Outcome.NOT_REACHED else f"{shown} {WORD[cell.outcome]}"


def undo_text(row: StepCoverage, *, ascii_only: bool = False) -> str:
    """What taking the step back is, and how long it took."""
    if row.undo_missing:
        return ("x" if ascii_only else "✗") + " none given"
    if row.no_way_back:
        return ("#" if ascii_only else "⊘") + " no way back"
    if not row.acts:
        return ""
    return format_duration(row.undo_seconds) if row.undo_seconds is not None else "not tried"


def headline(coverage: Coverage) -> str:
    """One sentence that says how it stands."""
    undoable, restored = len(coverage.undoable), len(coverage.restored)
    share = f" ({restored / undoable:.0%})" if undoable else ""
    worlds = sum(cell.column != NOTHING for cell in coverage.cells)
    where = f" at {steps_struck(coverage.only, len(coverage.steps))}" if coverage.only else ""
    return (f"Rollback coverage: {restored} of {undoable} undoable steps restored{share}; "
            f"{worlds} faults played{where} in {format_duration(coverage.real_seconds)}.")


def steps_struck(only: Sequence[str], of: int) -> str:
    """``1 of 26 steps (flip)``: where faults were played, when not at every step."""
    named = ", ".join(only) if len(only) <= _FEW else f"{', '.join(only[:_FEW])}, …"
    return f"{len(only)} of {of} steps ({named})"


def matrix_title(coverage: Coverage) -> str:
    if coverage.only:
        return f"Faults at {steps_struck(coverage.only, len(coverage.steps))}"
    return "Every fault at every step"


def lost_text(coverage: Coverage) -> str:
    counted = [cell.lost for cell in coverage.cells if cell.lost is not None]
    if not counted:
        return "Nobody counted lost writes: there is no traffic."
    if not any(counted):
        return f"No acknowledged write was lost, in {len(counted)} worlds with customers."
    past = sorted({name for cell in coverage.cells if cell.lost for name in cell.accepted})
    where = f", past {', '.join(past)}, whose loss was accepted by name" if past else ""
    return f"Acknowledged writes were lost: up to {max(counted)} in one world{where}."


def where(cell: Cell) -> str:
    """``flip, SSH cut``."""
    step = cell.step or WHOLE_RUN
    return f"{step}, {column_title(cell.column)}"


def bad_cells(coverage: Coverage) -> list[Cell]:
    return [cell for cell in coverage.cells if not cell.good]


def troubles(coverage: Coverage) -> dict[str, list[Cell]]:
    """What is wrong, each with the cells that show it. Of an undo that is not given the step's
    own row tells."""
    found: dict[str, list[Cell]] = {}
    for cell in bad_cells(coverage):
        if not cell.why.startswith(no_undo([])):
            found.setdefault(f"{WORD[cell.outcome]}: {cell.why}", []).append(cell)
    return found


def shown_by(cells: list[Cell]) -> str:
    """``flip, SSH cut; thaw, fails and 3 more``."""
    told = "; ".join(where(cell) for cell in cells[:3])
    return f"{told} and {len(cells) - 3} more" if len(cells) > 3 else told


def missing_hint(row: StepCoverage) -> str:
    return (f"{row.step} ({row.kind}): {row.no_way_back}. Give it an `undo:`, or say that there "
            "is none: `undo: {irreversible: why}`")
