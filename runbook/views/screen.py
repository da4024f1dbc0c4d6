"""What an operator sees while a run is driven: the live screen, or one line an event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runbook.engine.context import Observer
from runbook.engine.history import Reckoning
from runbook.views.consoles import plain_console
from runbook.views.live import LiveScreen
from runbook.views.plain import PlainScreen


@contextmanager
def screen(
    run_id: str, *, live: bool, now: Callable[[], float] | None = None,
    reckoning: Reckoning | None = None,
) -> Iterator[Observer]:
    """Show a run for as long as the context lasts.

    ``live``: the full screen, where the terminal can show one; else one line an event.
    ``now``: the run's time (of a rehearsal's clock); without it, real time since the last event.
    ``reckoning``: what steps and their undos are thought to take, for the back-out clock.
    """
    console = plain_console()
    if live and console.is_terminal and not console.is_dumb_terminal:
        with LiveScreen(
            run_id, real_now=time.time, now=now, reckoning=reckoning, console=console
        ) as shown:
            yield shown
    else:
        yield PlainScreen(console=console)
