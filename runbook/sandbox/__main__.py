"""``python -m runbook.sandbox``: one world, until its standard input ends or SIGTERM.

It writes one line when it is up, ``ready``; or, with exit code 10, what is wrong with sandbox.yml.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from runbook.errors import ExitCode, InvalidInput, RunbookError
from runbook.model.plan import Plan
from runbook.sandbox.config import load_config
from runbook.sandbox.faults import to_line
from runbook.sandbox.world import SandboxWorld


async def serve(world: SandboxWorld) -> None:
    """Start, say ``ready`` on standard output, wait for the end, clean up."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await world.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Thread(target=_until_end_of_input, args=(loop, ended), daemon=True).start()
        await ended.wait()
    finally:
        await world.stop()


def _until_end_of_input(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """A thread, because not every standard input can be watched by an event loop."""
    while os.read(0, 4096):
        continue
    loop.call_soon_threadsafe(ended.set)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runbook.sandbox", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="sandbox.yml")
    parser.add_argument(
        "--dir", type=Path, required=True,
        help="the world's folder, with plan.json and clock in it; removed at the end",
    )
    options = parser.parse_args()
    try:
        plan = Plan.model_validate_json((options.dir / "plan.json").read_bytes())
        config = load_config(options.config)
        asyncio.run(serve(SandboxWorld(plan, config, options.config, options.dir)))
    except InvalidInput as fault:
        sys.stdout.write(to_line(fault) + "\n")
        return int(ExitCode.INVALID)
    except RunbookError as fault:
        sys.stderr.write(f"{fault.message}\n")
        return int(fault.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
