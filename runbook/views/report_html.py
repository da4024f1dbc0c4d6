"""The report as one HTML page that needs nothing else: no script, no file, no network."""

from __future__ import annotations

from runbook.engine.report_model import Report
from runbook.views import report_words as words
from runbook.views.pages import environment
from runbook.views.report_words import ReportWords, span
from runbook.views.timeline import build_timeline
from runbook.views.words import PHASE_WORD, SYMBOL, level_word


def render_html(report: Report) -> str:
    """The whole page. Everything in the report is escaped: it stays text."""
    return environment().get_template("report.html.j2").render(
        r=report,
        say=ReportWords(report),
        span=span,
        words=words,
        timeline=build_timeline(report),
        symbol=SYMBOL,
        phase_word=PHASE_WORD,
        level_word=level_word,
        cards=_cards(report),
        step_heads=_step_heads(report),
    )


def _step_heads(report: Report) -> list[str]:
    """The columns of the table of steps; those that would tell nothing are left out."""
    heads = ["Step", "State", "Planned", "Started", "Took", "Estimate", "Off"]
    if any(step.hosts > 1 for step in report.steps):
        heads.append("Hosts")
    if any(step.attempts > 1 for step in report.steps):
        heads.append("Tries")
    return [*heads, "Detail"]


_CARD_MEASURES = frozenset({"write_outage", "lost", "writes_lost"})


def _cards(report: Report) -> list[tuple[str, str, str, str]]:
    """The few numbers that matter most: (label, value, remark, tone)."""
    cards = []
    if report.seconds is not None:
        cards.append(("Took", span(report.seconds), f"planned {span(report.planned_seconds)}", ""))
    if report.window_end is not None:
        end = report.ended_at if report.ended_at is not None else report.written_at
        left = report.window_end - end
        tone = "good" if left >= 0 else "bad"
        what = "left" if left >= 0 else "overrun"
        cards.append(("Window", span(abs(left)), what, tone))
    for budget in report.budgets:
        if budget.seconds is not None:
            never_ended = budget.state == "running" and report.ended_at is not None
            tone = "bad" if budget.breached or never_ended else "good"
            remark = f"of {span(budget.limit)} allowed{', never ended' if never_ended else ''}"
            cards.append((budget.name.replace("_", " "), span(budget.seconds), remark, tone))
    if report.rollback is not None:
        back = report.rollback
        whole = all(s.outcome in {"restored", "nothing to undo"} for s in back.steps)
        cards.append(
            ("Rollback", span(back.seconds), "everything put back" if whole else "incomplete",
             "good" if whole else "bad")
        )
    for measure in report.measures:
        if measure.name not in _CARD_MEASURES:
            continue
        tone = {True: "good", False: "bad", None: ""}[measure.good]
        value, _, aside = measure.text.removesuffix(")").partition(" (")
        remark = f"{aside}; measured from outside" if aside else "measured from outside"
        cards.append((measure.label, value, remark, tone))
    return cards
