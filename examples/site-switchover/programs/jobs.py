"""The wiki's maintenance: a job every half a second, which writes to the store of the primary site.

It stands for timers that are set up at both sites, and do something only where the primary site is.
"""

from __future__ import annotations

import threading

from web import ask
from wiki import SITE, STORE, primary, read_only

EVERY = 0.5


def main() -> None:
    pause = threading.Event()
    while not pause.wait(EVERY):
        if primary() != SITE or read_only():
            continue
        try:
            ask(f"{STORE}/writes", b'{"job": "statistics"}')
        except OSError as fault:
            print(f"the store takes nothing: {fault}", flush=True)


if __name__ == "__main__":
    main()
