"""The levels of rehearsal, each recorded under the digest of the plan."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from runbook.cli import wiring
from runbook.cli.embedded import embedded, keep_judgement, sandbox_config
from runbook.cli.plan import looked_ahead
from runbook.cli.recorded import record
from runbook.cli.session import Show, start
from runbook.engine.probe import (
    Drift,
    ProbeReport,
    Rounds,
    drift_since,
    look_back,
    probe,
    recorded,
)
from runbook.errors import ExitCode, RunbookError
from runbook.journal import Store
from runbook.model.plan import Plan
from runbook.views.ending import ending
from runbook.views.probe import probe_json, show_probe, show_round
from runbook.views.rehearsal import show_offline, show_played


def offline(plan: Plan, store: Store, *, as_json: bool) -> NoReturn:
    """Level *plan*: whether it is whole and fits its window. Touches nothing."""
    timeline, _ = looked_ahead(plan)
    ok = timeline.fits_window is not False
    record(store, plan, "plan", "", ok, {"total": timeline.total})
    show_offline(plan, timeline, ok=ok, as_json=as_json)
    raise typer.Exit(int(ExitCode.OK if ok else ExitCode.REHEARSAL_FAILED))


@dataclass(frozen=True, slots=True)
class Repeat:
    """How often to probe: once, or ``every`` so many seconds, ``times`` in all (None: until
    Ctrl-C, or until the window begins)."""

    every: float | None = None
    times: int | None = None


def probed(plan: Plan, store: Store, *, as_json: bool, repeat: Repeat | None = None) -> NoReturn:
    """Level *probe*: what each step would do and needs, read from the real world; and what has
    changed since the probe before. Of several the exit code is that of the last."""
    repeat = repeat or Repeat()
    clock = wiring.real_clock()
    opens = plan.window.start if plan.window is not None else None
    code = ExitCode.OK
    with _ended_by_ctrl_c(asked=repeat.every is not None) as wake:
        for _ in Rounds(
            clock=clock, wake=wake, every=repeat.every, times=repeat.times,
            until=opens if opens is not None and opens > clock.now() else None,
        ):
            try:
                report, drift = _probe_once(plan, store)
            except RunbookError as fault:
                if repeat.every is None:
                    raise
                # The next round may find it mended.
                typer.echo(f"error: {fault.message}", err=True)
                code = fault.exit_code
                continue
            code = ExitCode.OK if report.ok else ExitCode.REHEARSAL_FAILED
            if as_json:
                typer.echo(probe_json(report, drift, moment=clock.now()))
            elif repeat.every is None:
                show_probe(report, drift)
            else:
                show_round(report, drift, moment=clock.now())
    raise typer.Exit(int(code))


def _probe_once(plan: Plan, store: Store) -> tuple[ProbeReport, Drift | None]:
    before = look_back(plan, store.rehearsals())
    report = probe_world(plan, store)
    drift = drift_since(before, report)
    record(store, plan, "probe", "", report.ok, {
        "fidelity": report.fidelity, **report.counts, "needs": report.needs_counts,
        "drift": len(drift.changed) if drift is not None else None, "seen": recorded(report),
    })
    return report, drift


@contextmanager
def _ended_by_ctrl_c(*, asked: bool) -> Iterator[threading.Event]:
    """Ctrl-C ends the waiting between two probes, and lets one at work come to its end."""
    wake = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Not from the handler itself: it may have interrupted a holder of the same lock.
        threading.Thread(target=wake.set, name="stop").start()
        # A second one ends it at once.
        signal.signal(number, signal.default_int_handler)

    if not asked:
        yield wake
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield wake
    finally:
        signal.signal(signal.SIGINT, before)


def probe_world(plan: Plan, store: Store, endpoints_file: str = "") -> ProbeReport:
    """Observe every step once. Writes nothing anywhere outside the state folder."""
    endpoints = wiring.read_endpoints(endpoints_file) if endpoints_file else None
    world = wiring.build_world(
        plan, run_id=f"probe-{secrets.token_hex(4)}", state=store.directory, epoch=0,
        endpoints=endpoints,
    )
    try:
        report = probe(plan, world, wiring.kinds())
        world.tidy(keep_saved=False)
        return report
    finally:
        world.close()


def played(
    plan: Plan, store: Store, file: Path, config: Path | None, *, fail: tuple[str, ...],
    real_time: bool, plain: bool, as_json: bool,
) -> NoReturn:
    """Level *sandbox*: the whole run in an embedded world, with its outside client."""
    wiring.check_steps(plan, fail)
    with embedded(
        plan, sandbox_config(file, config), fail=fail, real_time=real_time
    ) as played_in:
        before = played_in.world.fingerprint()
        run_id, driven = start(
            plan, store, level="sandbox", endpoints_file=str(played_in.endpoints_file),
            show=Show.NOTHING if as_json else Show.PLAIN if plain else Show.LIVE,
        )
        judgement = played_in.judge.stop() if played_in.judge else None
        changed = played_in.world.diff(before, played_in.world.fingerprint())
    if judgement is not None:
        keep_judgement(store, run_id, judgement)
    lost = judgement.writes_lost if judgement else None
    restored = driven.exit_code is ExitCode.ROLLED_BACK and not changed
    ok = (restored if fail else driven.exit_code is ExitCode.OK) and not lost
    record(store, plan, "sandbox", run_id, ok,
            {"phase": str(driven.phase), "failed_on_purpose": list(fail), "lost": lost})
    show_played(run_id, driven, judgement, changed if fail else None, ok=ok, as_json=as_json)
    if not as_json:
        typer.echo(ending(driven.phase, driven.exit_code, driven.why, run_id))
    raise typer.Exit(int(ExitCode.OK if ok else ExitCode.REHEARSAL_FAILED))
