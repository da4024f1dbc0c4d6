"""The report as Markdown: for a ticket, a wiki, or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runbook.engine.report_model import Report
from runbook.views import report_words as words
from runbook.views.report_words import ReportWords, span

_ESCAPED = str.maketrans({"|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "_": r"\_",
                          "`": r"\`", "[": r"\[", "]": r"\]", "\\": "\\\\"})


def render_markdown(report: Report) -> str:
    """The whole report. What came from hosts and people is escaped: it stays text."""
    say = ReportWords(report)
    parts = [
        f"# {_text(report.title or report.runbook)}",
        f"**{_text(report.headline)}**",
        _table(("", ""), say.facts()),
        _next(report),
        _section("Measured from outside", _measures(report)),
        _section("Budgets", _budgets(report, say)),
        _section("Steps", _steps(report, say)),
        _section("What decided the end", _path(report, say)),
        _rollback(report, say),
        _section("Decisions", _table(
            ("When", "Who", "Step", "Verdict", "Why"),
            [(say.clock(d.ts), words.decider(d), d.node, d.verb, words.decision_reason(d))
             for d in report.decisions])),
        _section("Too late for the way back", _table(
            ("When", "Step", "Arithmetic", "What came of it"),
            [(say.clock(x.ts), x.step, words.late_words(x), words.late_verdict(x))
             for x in report.lateness])),
        _section("Breaches", _table(
            ("When", "What", "Measured", "Limit", "Then", "Detail"),
            [(say.clock(b.ts), b.what, span(b.measured), span(b.limit), b.action, b.detail)
             for b in report.breaches])),
        _section("Foretold and come true", _forecast(report, say)),
        _section("The back-out clock", _table(
            ("As this began", "At", "Window left", "Going back", "Margin", ""),
            [(c.step, say.clock(c.ts), span(c.remaining), span(c.settle + c.backout),
              span(c.margin), c.basis) for c in report.clock])),
        _section("Incidents", _table(
            ("When", "Step", "Attempt", "What", "Error"),
            [(say.clock(i.ts), i.node, f"{i.op} {i.attempt}", i.kind.replace("_", " "), i.error)
             for i in report.incidents])),
        _section("Notes", _table(
            ("When", "Step", "Text"), [(say.clock(n.ts), n.node, n.text) for n in report.notes])),
        _section("Resumed", _table(
            ("When", "By", "Controller"),
            [(say.clock(r.ts), r.who, r.controller) for r in report.resumptions])),
        _evidence(report, say),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _text(value: object) -> str:
    return " ".join(str(value).translate(_ESCAPED).split())


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; empty when there are no rows."""
    lines = ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows]
    if not lines:
        return ""
    top = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*top, *lines])


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _next(report: Report) -> str:
    lines = [
        f"- {_text(advice.text)}" + (f": `{advice.command}`" if advice.command else "")
        for advice in report.next
    ]
    return _section("What to do next", "\n".join(lines))


def _measures(report: Report) -> str:
    verdict = {True: "good", False: "**bad**", None: ""}
    rows = [f"| {_text(m.label)} | {_text(m.text)} | {verdict[m.good]} |" for m in report.measures]
    return "\n".join(["| What | Measured | |", "| --- | --- | --- |", *rows]) if rows else ""


def _budgets(report: Report, say: ReportWords) -> str:
    return _table(
        ("Budget", "From", "To", "Limit", "Measured"),
        [(b.name, words.budget_begin(b, say.clock(b.since)),
          words.budget_end(b, say.clock(b.until)), span(b.limit), words.budget_result(b))
         for b in report.budgets],
    )


def _forecast(report: Report, say: ReportWords) -> str:
    if report.forecast is None:
        return ""
    table = _table(
        ("What", "p5", "p50", "p90", "p95", "Came", "Verdict"),
        [(words.came_what(one), *say.came(one), words.came_verdict(one))
         for one in report.forecast.came],
    )
    return f"{table}\n\n{words.forecast_words(report.forecast)}".lstrip()


def _steps(report: Report, say: ReportWords) -> str:
    return _table(
        ("Step", "State", "Planned", "Started", "Took", "Estimate", "Off", "Hosts", "Tries",
         "Detail"),
        [(s.id, say.state(s), say.clock(s.planned_start), say.clock(s.started_at),
          span(s.seconds), span(s.estimate), words.delta(s), words.hosts(s), s.attempts or "",
          s.detail) for s in report.steps],
    )


def _path(report: Report, say: ReportWords) -> str:
    rows = [
        (f"{'undo of ' if link.op == 'undo' else ''}{link.step}", say.clock(link.start),
         span(None if link.end is None else link.end - link.start),
         span(link.waited) if link.waited >= 1 else "")
        for link in report.critical_path
    ]
    return _table(("Step", "Started", "Took", "Waited before"), rows)


def _rollback(report: Report, say: ReportWords) -> str:
    back = report.rollback
    if back is None:
        return ""
    why = f" Why: {_text(back.why)}." if back.why else ""
    where = f" Back to: {_text(back.to)}." if back.to else ""
    table = _table(
        ("Step", "Outcome", "Started", "Took", "Estimate", "Detail"),
        [(s.step, s.outcome, say.clock(s.started_at), span(s.seconds), span(s.estimate), s.detail)
         for s in back.steps],
    )
    known = "" if back.reckoned is None else f"; {span(back.reckoned)} were reckoned"
    head = f"Started {say.clock(back.started_at)}, took {span(back.seconds)}{known}.{why}{where}"
    return _section("Rollback", f"{head}\n\n{table}".rstrip())


def _evidence(report: Report, say: ReportWords) -> str:
    lines = [
        f"- Plan `{report.plan_digest}`",
        *(f"- Amended {say.full(a.ts)} by {_text(a.who)}: {_text(a.why)}. From plan `{a.was}` to "
          f"`{a.digest}`: {_text('; '.join(a.changes))}" for a in report.amendments),
        f"- Journal: {report.journal_events} events, head `{report.journal_head}`",
        f"- Written {say.full(report.written_at)}",
    ]
    files = _table(
        ("Step", "Action", "Exit", "Standard output", "Standard error"),
        [(o.node, f"{o.op} {o.attempt}.{o.index + 1}",
          "" if o.exit_code is None else o.exit_code, o.stdout_path, o.stderr_path)
         for o in report.outputs],
    )
    return _section("Evidence", "\n".join(lines) + (f"\n\n{files}" if files else ""))
