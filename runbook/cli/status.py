"""``runbook status``: where a run stands."""

from __future__ import annotations

from typing import Annotated

import typer

from runbook.cli.options import Json, Run, State


def command(
    run: Run = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep showing it until the run has ended.")
    ] = False,
    json: Json = False,
    state: State = None,
) -> None:
    import threading

    from runbook.cli import wiring
    from runbook.cli.answer import load_state
    from runbook.cli.clocks import time_of_run
    from runbook.cli.under_way import output_under_way
    from runbook.model.folding import fold
    from runbook.views import status as view
    from runbook.views.glance import Glance

    store = wiring.open_state(state, must_exist=True)
    run_id = wiring.find_run(store, run)
    real = wiring.real_clock()
    first = load_state(store, run_id)
    known = wiring.reckoning(store, first.plan, level=first.level, leave_out=run_id)
    folder = store.run_directory(run_id)

    def look() -> Glance:
        folded = load_state(store, run_id)
        held = store.holder(run_id) is not None
        said = output_under_way(folded, folder) if held else ()
        return Glance(folded, time_of_run(folded), real.now(), said, reckoning=known, held=held)

    if watch and not json:
        try:
            view.watch(look, stop=threading.Event())
        except KeyboardInterrupt:
            # Watching is all that ends here; the run does not notice.
            raise typer.Exit from None
        return
    if json:
        from json import dumps

        plan, events = store.load(run_id)
        folded = fold(run_id, plan, events)
        held_by = store.holder(run_id)
        data = view.status_data(
            folded, events, now=time_of_run(folded), held_by=held_by, reckoning=known,
            output=output_under_way(folded, folder) if held_by else (),
        )
        typer.echo(dumps(data, ensure_ascii=False, indent=2))
        return
    seen = look()
    view.print_status(seen, held_by=store.holder(run_id))
    others = [summary for summary in store.runs() if summary.run_id != run_id]
    if run is None and others:
        typer.echo("\nother runs:")
        view.print_runs(others[:10])
