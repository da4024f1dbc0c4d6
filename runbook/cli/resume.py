"""``runbook resume``: go on with a run wherever it stopped."""

from __future__ import annotations

from runbook.cli.options import Plain, Run, State


def command(run: Run = None, plain: Plain = False, state: State = None) -> None:
    from runbook.cli import wiring
    from runbook.cli.session import finish, shown, take_up
    from runbook.cli.staging import record_resumed

    store = wiring.open_state(state, must_exist=True)
    run_id = wiring.find_run(store, run)
    driven = take_up(store, run_id, show=shown(plain))
    record_resumed(store, run_id)
    finish(driven, run_id)
