"""What ``runbook demo`` shows: plan, probe, the run under watch, the judge's verdict.

The controller is a process of its own, the very ``runbook run`` an operator would type, so that
it can be killed like one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import typer

from runbook.cli import wiring
from runbook.cli.answer import load_state
from runbook.cli.embedded import Embedded, embedded, keep_judgement, sandbox_config
from runbook.cli.levels import probe_world
from runbook.cli.report import write_report
from runbook.errors import Errored, ExitCode, NotFound
from runbook.journal import Store
from runbook.model.plan import Plan
from runbook.planning import without
from runbook.sandbox.judgement import Judgement
from runbook.views.demo import show_head, show_verdict
from runbook.views.probe import show_probe

_LOOK_EVERY = 0.05


def shipped_example() -> Path:
    """The example in the source tree. Raises NotFound where only the package is installed."""
    path = Path(__file__).parents[2] / "examples" / "shop-2009" / "runbook.yml"
    if not path.exists():
        raise NotFound(
            "the examples are not part of the installed package",
            hint="clone the project, or name a runbook that has a sandbox.yml with --example",
        )
    return path


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One showing, as asked for on the command line."""

    file: Path
    state: Path | None
    fail: str | None
    kill: str | None
    leave_out: str | None
    real_time: bool
    plain: bool

    def show(self) -> None:
        """Show it all; exits with 0 when it went as it should have."""
        plan = without(
            wiring.load_plan(self.file, []), [self.leave_out] if self.leave_out else []
        )
        for name in filter(None, (self.fail, self.kill)):
            if name not in plan.by_id:
                raise NotFound(f"the example has no step {name!r}",
                               hint="its steps: " + ", ".join(plan.by_id))
        store = wiring.open_state(self.state)
        show_head(plan, self.file)
        config = sandbox_config(self.file, None)
        with embedded(
            plan, config, fail=(self.fail,) if self.fail else (), real_time=self.real_time
        ) as played_in:
            show_probe(probe_world(plan, store, str(played_in.endpoints_file)))
            before = played_in.world.fingerprint()
            code = self._run(store, plan, played_in)
            run_id = store.latest_run_id() or ""
            judgement = played_in.judge.stop() if played_in.judge else None
            changed = played_in.world.diff(before, played_in.world.fingerprint())
        if judgement is not None:
            keep_judgement(store, run_id, judgement)
        ok = self._as_expected(code, judgement, changed)
        report = write_report(store, run_id)
        show_verdict(
            load_state(store, run_id), judgement, changed if self.fail else None,
            report=report, ok=ok,
        )
        raise typer.Exit(int(ExitCode.OK if ok else ExitCode.REHEARSAL_FAILED))

    def _as_expected(self, code: int, judgement: Judgement | None, changed: list[str]) -> bool:
        if judgement is not None and judgement.writes_lost:
            return False
        if self.fail is not None:
            return code == ExitCode.ROLLED_BACK and not changed
        return code == ExitCode.OK

    def _run(self, store: Store, plan: Plan, played_in: Embedded) -> int:
        known = {run.run_id for run in store.runs()}
        command = ["run", str(self.file), "--world", str(played_in.endpoints_file)]
        if self.leave_out:
            command += ["--skip", self.leave_out]
        child = self._spawn(store, command)
        if self.kill is None:
            return child.wait()
        killed = threading.Event()
        run_id = self._kill_in(store, plan, child, known, killed)
        code = child.wait()
        if not killed.is_set():
            raise Errored(f"the run ended (code {code}) before it came to step {self.kill}")
        typer.echo(f"\nThe controller was killed (SIGKILL) in step {self.kill}. What it started "
                   "on the hosts goes on.\nResuming as an operator would: "
                   f"runbook resume {run_id}\n")
        return self._spawn(store, ["resume", run_id]).wait()

    def _spawn(self, store: Store, arguments: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "runbook", *arguments, "--state", str(store.directory)]
        if self.plain:
            command.append("--plain")
        return subprocess.Popen(command)

    def _kill_in(
        self, store: Store, plan: Plan, child: subprocess.Popen[bytes], known: set[str],
        killed: threading.Event,
    ) -> str:
        """Kill the child as soon as its journal shows that the step has begun; the run's id."""
        nodes = {node.id for node in plan.by_id[self.kill or ""].nodes}
        tick = threading.Event()
        run_id = ""
        while child.poll() is None and not killed.is_set():
            tick.wait(_LOOK_EVERY)
            latest = store.latest_run_id()
            if latest is None or latest in known:
                continue
            run_id = latest
            if any(e.node in nodes for e in store.events(run_id)):
                os.kill(child.pid, signal.SIGKILL)
                killed.set()
        return run_id
