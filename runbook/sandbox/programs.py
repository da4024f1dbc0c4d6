"""The services of a world's hosts: real processes, under ``systemctl``'s words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

from runbook.sandbox.config import ProgramConfig
from runbook.sandbox.hosts import HostSpace

_START_PATIENCE = 10.0
_STOP_PATIENCE = 5.0
_TAIL, _LINES = 1200, 6
"""Characters and lines that are shown of what a program wrote."""


class PortReserve:
    """Free loopback ports that stay reserved while the program that uses them is down.

    Each is held by a bound socket that does not listen: with ``SO_REUSEADDR`` on both sides Linux
    lets a program listen there all the same, and nobody is given the port by chance.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self._held.append(held)
        return int(held.getsockname()[1])

    def release(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()


@dataclass
class Program:
    """One service of one host."""

    config: ProgramConfig
    space: HostSpace
    ports: dict[str, int]
    """Real port by the port number of the plan's world."""
    log: Path
    enabled: bool
    process: asyncio.subprocess.Process | None = None
    failed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def active(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def state(self) -> str:
        """``active``, ``inactive`` or ``failed``."""
        if self.active:
            return "active"
        died = self.process is not None and self.process.returncode not in (0, None)
        return "failed" if self.failed or died else "inactive"

    def _environment(self) -> dict[str, str]:
        env = {**self.space.env, **self.config.env}
        for number, real in self.ports.items():
            env[f"PORT_{number}"] = str(real)
            env.setdefault("PORT", str(real))
        return env

    async def start(self) -> str:
        """Start, and wait until it listens everywhere it should. Empty, or what went wrong."""
        async with self.lock:
            if self.active:
                return ""
            self.failed = False
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", f"exec {self.config.command}",
                    cwd=self.space.home, env=self._environment(), start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                )
            try:
                async with asyncio.timeout(_START_PATIENCE):
                    for port in self.ports.values():
                        await self._until_listening(self.process, port)
            except TimeoutError:
                await self._end()
                self.failed = True
                named = " and ".join(f"$PORT_{number}" for number in self.ports)
                return (
                    f"does not listen at the port in {named} after {_START_PATIENCE:.0f} s; "
                    f"{self._wrote()}"
                )
            if not self.active:
                self.failed = True
                return f"ended at once with code {self.process.returncode}; {self._wrote()}"
            return ""

    async def _until_listening(self, process: asyncio.subprocess.Process, port: int) -> None:
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)  # nothing tells when another process listens
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return

    async def stop(self) -> None:
        async with self.lock:
            self.failed = False
            await self._end()
            self.process = None

    async def _end(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                async with asyncio.timeout(_STOP_PATIENCE):
                    await process.wait()
                return
            except TimeoutError:
                continue

    def reload(self) -> None:
        if self.process is not None and self.active:
            self.process.send_signal(signal.SIGHUP)

    def _wrote(self) -> str:
        """The last lines that it wrote, in words."""
        text = self.log.read_bytes()[-_TAIL:].decode(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_LINES:]
        return "\n  ".join(("it wrote last:", *lines)) if lines else "it wrote nothing"


@dataclass(frozen=True, slots=True)
class Output:
    """What a command said."""

    exit: int
    stdout: str = ""
    stderr: str = ""


async def systemctl(programs: dict[str, Program], args: list[str]) -> Output:
    """``systemctl`` for the programs of one host: texts and exit codes as systemd's (systemctl(1),
    "Exit status": 3 not active, 4 no such unit; 5 when a unit to start does not exist)."""
    words = [item for item in args if not item.startswith("-")]
    options = [item for item in args if item.startswith("-")]
    values: list[str] = []
    if "-p" in options:  # the word after a bare -p is its value
        at = args.index("-p")
        if at + 1 < len(args):
            values = args[at + 1].split(",")
            words.remove(args[at + 1])
    for item in options:
        if item.startswith(("--property=", "-p")) and item != "-p":
            values += item.removeprefix("--property=").removeprefix("-p").split(",")
    if not words:
        return Output(1, stderr="systemctl: a command is wanted\n")
    verb, names = words[0], [name.removesuffix(".service") for name in words[1:]]
    if verb == "daemon-reload":
        return Output(0)
    if not names:
        return Output(1, stderr=f"systemctl {verb}: a unit is wanted\n")
    quiet = "-q" in options or "--quiet" in options
    results = []
    for name in names:
        program = programs.get(name)
        if verb == "show":
            results.append(_show(name, program, values, "--value" in options))
        elif program is None:
            results.append(_missing(verb, name))
        else:
            results.append(await _one(verb, program, options))
    return Output(
        max(item.exit for item in results),
        "" if quiet else "".join(item.stdout for item in results),
        "".join(item.stderr for item in results),
    )


def _missing(verb: str, name: str) -> Output:
    unit = f"{name}.service"
    if verb == "is-active":
        return Output(4, stdout="inactive\n")
    if verb == "is-enabled":
        return Output(4, stdout="not-found\n")
    if verb == "is-failed":
        return Output(4, stdout="inactive\n")
    if verb in ("enable", "disable"):
        return Output(1, stderr=f"Failed to {verb} unit: Unit file {unit} does not exist.\n")
    if verb in ("status", "cat"):
        return Output(4, stderr=f"Unit {unit} could not be found.\n")
    return Output(5, stderr=f"Failed to {verb} {unit}: Unit {unit} not found.\n")


async def _one(verb: str, program: Program, options: list[str]) -> Output:
    unit = f"{program.config.name}.service"
    if verb == "is-active":
        return Output(0 if program.active else 3, stdout=f"{program.state}\n")
    if verb == "is-failed":
        return Output(0 if program.state == "failed" else 1, stdout=f"{program.state}\n")
    if verb == "is-enabled":
        word = "enabled" if program.enabled else "disabled"
        return Output(0 if program.enabled else 1, stdout=f"{word}\n")
    if verb == "status":
        return Output(0 if program.active else 3, stdout=f"{unit}\n  Active: {program.state}\n")
    if verb in ("enable", "disable"):
        program.enabled = verb == "enable"
        if "--now" not in options:
            return Output(0)
        verb = "start" if program.enabled else "stop"
    if verb in ("stop", "restart", "try-restart"):
        was_active = program.active
        await program.stop()
        if verb == "try-restart" and not was_active:
            return Output(0)
    if verb == "stop":
        return Output(0)
    if verb in ("start", "restart", "try-restart"):
        fault = await program.start()
        return Output(1, stderr=f"Job for {unit} failed: {fault}\n") if fault else Output(0)
    if verb in ("reload", "reload-or-restart"):
        if not program.active:
            return Output(1, stderr=f"{unit} is not active, cannot reload.\n")
        program.reload()
        return Output(0)
    return Output(1, stderr=f"systemctl of the sandbox does not know {verb!r}\n")


def _show(name: str, program: Program | None, wanted: list[str], bare: bool) -> Output:
    active = program is not None and program.active
    pid = program.process.pid if active and program and program.process else 0
    facts = {
        "Id": f"{name}.service",
        "LoadState": "loaded" if program else "not-found",
        "ActiveState": program.state if program else "inactive",
        "SubState": "running" if active else "dead",
        "UnitFileState": "" if not program else "enabled" if program.enabled else "disabled",
        "MainPID": str(pid),
    }
    keys = [key for key in facts if not wanted or key in wanted]
    return Output(
        0, stdout="".join(f"{facts[key]}\n" if bare else f"{key}={facts[key]}\n" for key in keys)
    )
