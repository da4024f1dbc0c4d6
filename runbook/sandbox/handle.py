"""Starting a world from outside, and holding on to it."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from runbook.errors import Errored, InvalidInput, Refused
from runbook.model.endpoints import Endpoints
from runbook.model.plan import Plan
from runbook.model.ports import CommandResult
from runbook.sandbox import control
from runbook.sandbox.clock import WorldClock
from runbook.sandbox.config import load_config
from runbook.sandbox.faults import from_line
from runbook.sandbox.fingerprint import Fingerprint, diff
from runbook.sandbox.processes import end_marked

LEAD = 600.0
"""Virtual seconds from the beginning of a world to the earliest moment its plan names."""

_START_PATIENCE = 60.0
_STOP_PATIENCE = 30.0


class WorldHandle:
    """A running world. One that was started here ends with :meth:`stop`, or when this process
    does; :meth:`attach` gives another process the same view without that power."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self.directory = directory
        self.endpoints = Endpoints.model_validate_json(
            (directory / "endpoints.json").read_bytes()
        )
        self.clock = WorldClock(self.endpoints.clock)
        self._process = process

    @classmethod
    def attach(cls, directory: Path) -> WorldHandle:
        """A view of a world that another process holds. Raises Errored when there is none."""
        if not (directory / "ready").exists():
            raise Errored(f"there is no sandbox world in {directory}")
        return cls(directory)

    @property
    def authoritative(self) -> tuple[str, int]:
        """Address and port of the world's authoritative name server."""
        data = json.loads((self.directory / "names.json").read_text())
        return "127.0.0.1", int(data["authoritative"])

    def fingerprint(self) -> Fingerprint:
        """The state of files, zones and services now. Raises Errored."""
        return Fingerprint.model_validate(self._call("fingerprint"))

    def diff(self, a: Fingerprint, b: Fingerprint) -> list[str]:
        """What changed from ``a`` to ``b``; empty when nothing did."""
        return diff(a, b)

    def cut(self, host: str) -> int:
        """Drop all SSH connections of a host; commands on it go on. How many there were."""
        return int(self._call("cut", host=host)["connections"])

    def run(self, host: str, command: str) -> CommandResult:
        """A command in a host's folder, past SSH: for audits and tests."""
        said = self._call("run", host=host, command=command)
        return CommandResult(
            exit_code=said["exit"], stdout=said["stdout"], stderr=said["stderr"]
        )

    def log(self, host: str, program: str) -> str:
        """What a program wrote so far."""
        path = self.directory / "logs" / f"{host}-{program}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End the world and everything it started, and remove its folder. May be repeated."""
        process = self._process
        if process is None:
            return
        self._process = None
        _end(process)
        _sweep(self.directory)

    def __enter__(self) -> WorldHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _call(self, op: str, **more: Any) -> dict[str, Any]:
        return control.call(self.directory, {"op": op, **more})


def start_world(
    plan: Plan, config_path: Path, directory: Path, *, real_time: bool = False,
    longest_wait: float | None = None,
) -> WorldHandle:
    """Build the world of a plan in ``directory``, which must not exist or be empty.

    Its clock begins ten minutes before the earliest moment that the plan names. ``real_time``:
    waits last as long as they say. ``longest_wait``: real seconds that none outlasts, where
    sandbox.yml allows more. Raises InvalidInput (sandbox.yml does not fit), Refused (the
    folder is in use) or Errored (the world did not come up); nothing is left behind then.
    """
    config = load_config(config_path)
    directory = directory.resolve()
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty", hint="a world wants a folder of its own")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    WorldClock.create(
        directory / "clock", start=first_moment(plan) - LEAD,
        scale=1.0 if real_time else config.time.scale,
        longest_wait=min(config.time.longest_wait, longest_wait or config.time.longest_wait),
    )
    (directory / "plan.json").write_text(plan.model_dump_json())
    command = [
        sys.executable, "-m", "runbook.sandbox",
        "--config", str(config_path.resolve()), "--dir", str(directory),
    ]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )
        try:
            _until_ready(process, errors, config_path)
        except BaseException:
            _end(process)
            _sweep(directory)
            raise
    return WorldHandle(directory, process)


def first_moment(plan: Plan) -> float:
    """The earliest moment a plan names, in Unix seconds; without any, now."""
    moments = [step.at for step in plan.steps if step.at is not None]
    if plan.window is not None:
        moments.append(plan.window.start)
    return min(moments, default=time.time() + LEAD)


def _until_ready(
    process: subprocess.Popen[bytes], errors: IO[bytes], config_path: Path
) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_PATIENCE)
    said = process.stdout.readline() if ready else b""
    if said == b"ready\n":
        return
    if not ready:
        raise Errored(f"the sandbox world was not ready after {_START_PATIENCE:.0f} s")
    code = process.wait()
    if code == InvalidInput.exit_code:
        raise from_line(said.decode(), config_path)
    errors.seek(0)
    text = errors.read().decode(errors="replace").strip()
    raise Errored(f"the sandbox world did not come up (code {code}): {text[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the world clean up; it notices the end of its standard input."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _sweep(directory: Path) -> None:
    """What a world left that was killed before it could clean up."""
    marker = directory / "world.json"
    if marker.exists():
        end_marked(str(json.loads(marker.read_text())["id"]))
    shutil.rmtree(directory, ignore_errors=True)
