"""``runbook report``: the report of a run, as Markdown, HTML or JSON."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runbook.cli.options import Run, State

if TYPE_CHECKING:
    from runbook.engine.report_model import Report
    from runbook.journal import Store


class Format(StrEnum):
    MD = "md"
    HTML = "html"
    JSON = "json"


def command(
    run: Run = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Else by the ending of --out; else Markdown."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", dir_okay=False,
                     help="Write it there; without it, print it."),
    ] = None,
    state: State = None,
) -> None:
    from runbook.cli import wiring

    store = wiring.open_state(state, must_exist=True)
    report = report_of(store, wiring.find_run(store, run))
    text = render(report, form or _by_ending(out))
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text)
    typer.echo(f"{report.headline} Report: {out}")


def report_of(store: Store, run_id: str) -> Report:
    """The report of a run from its journal, with what an outside client measured, if any."""
    import json

    from runbook.cli.clocks import time_of_run
    from runbook.cli.foretelling import forecast_of
    from runbook.engine.report import build_report
    from runbook.model.folding import fold

    plan, events = store.load(run_id)
    state = fold(run_id, plan, events)
    kept = store.run_directory(run_id) / "judgement.json"
    judgement = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
    return build_report(
        state, events, now=time_of_run(state), judgement=judgement,
        forecast=forecast_of(store, state), held=store.holder(run_id) is not None,
    )


def render(report: Report, form: Format) -> str:
    """The report as text in that format."""
    if form is Format.HTML:
        from runbook.views.report_html import render_html

        return render_html(report)
    if form is Format.JSON:
        return report.model_dump_json(indent=2) + "\n"
    from runbook.views.report_md import render_markdown

    return render_markdown(report)


def write_report(store: Store, run_id: str) -> Path:
    """Write the HTML report into the run's own folder; its path. Raises Refused."""
    path = store.run_directory(run_id) / "report.html"
    _write(path, render(report_of(store, run_id), Format.HTML))
    return path


def _write(path: Path, text: str) -> None:
    from runbook.errors import Refused

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Refused(f"{path} cannot be written: {fault.strerror}") from fault


def _by_ending(out: Path | None) -> Format:
    endings = {".html": Format.HTML, ".htm": Format.HTML, ".json": Format.JSON}
    return endings.get(out.suffix.lower(), Format.MD) if out else Format.MD
