"""``runbook plan``: show what would be done, offline."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from runbook.cli.options import Json, RunbookFile, Vars

if TYPE_CHECKING:
    from runbook.model.dns import RRset
    from runbook.model.plan import Plan
    from runbook.planning.preview import StepPreview
    from runbook.planning.timeline import Timeline


class Graph(StrEnum):
    MERMAID = "mermaid"
    DOT = "dot"


def command(
    file: RunbookFile,
    var: Vars = None,
    as_json: Json = False,
    graph: Annotated[
        Graph | None, typer.Option("--graph", help="Print the graph of the steps instead.")
    ] = None,
    hosts: Annotated[bool, typer.Option("--hosts", help="Name every host.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Leave nothing out; show every check and undo.")
    ] = False,
    staging: Annotated[
        bool, typer.Option("--staging", help="As it would be rehearsed in staging.")
    ] = False,
    invert: Annotated[
        bool, typer.Option("--invert", help="With --staging: in the other direction.")
    ] = False,
) -> None:
    """Nothing outside the runbook's folder is asked or changed."""
    import json

    from runbook.cli.wiring import load_plan, load_staging
    from runbook.planning.graphs import dot, mermaid
    from runbook.views.plan import Detail, plan_json, show_plan

    if invert and not staging:
        raise typer.BadParameter("--invert goes with --staging")
    plan = (load_staging(file, var or [], invert=invert) if staging
            else load_plan(file, var or []))
    timeline, previews = looked_ahead(plan)
    if graph is not None:
        typer.echo((mermaid if graph is Graph.MERMAID else dot)(plan, timeline), nl=False)
        return
    if as_json:
        typer.echo(json.dumps(plan_json(plan, timeline, previews), indent=2, ensure_ascii=False))
        return
    show_plan(plan, timeline, previews, detail=Detail(hosts=hosts, full=full))


def looked_ahead(
    plan: Plan, *, begun: float | None = None
) -> tuple[Timeline, dict[str, StepPreview]]:
    """When each step would run (of a run that is ``begun`` then), and what it would do, as far as
    both can be known offline. Raises InvalidInput or Errored."""
    from runbook.cli.wiring import kinds
    from runbook.planning.back_waits import back_waits, guessed_back_waits
    from runbook.planning.pauses import pauses
    from runbook.planning.preview import known_changes, preview
    from runbook.planning.timeline import build_timeline

    previews = preview(plan, kinds(), zone_records(plan))
    changes = known_changes(previews)
    return build_timeline(
        plan, back_waits(plan, kinds(), changes), pauses(plan, kinds(), changes),
        guessed_back_waits(plan, kinds(), changes), begun=begun,
    ), previews


def zone_records(plan: Plan) -> dict[str, tuple[RRset, ...]]:
    """The record sets of every zone that names a zone file. Raises InvalidInput or Errored."""
    from pathlib import Path

    from runbook.transports.dns.zonefile import read_zone_file

    return {
        zone.called: read_zone_file(Path(plan.directory) / zone.file, zone.name)
        for zone in plan.zones
        if zone.file is not None
    }
