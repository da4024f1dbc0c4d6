"""An outside client: places orders one after the other and writes down those acknowledged.

    shopper.py SITE RECORDS [PAUSE]

Each order resolves the name anew and opens a new connection. A line of RECORDS is the identity
of an order that the shop said it has, on the disk before the next order is placed. Between two
orders a page is read, and RECORDS.pages says when and why one did not load.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_FAULTS = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)


def main(site: str, records: str, pause: float = 0.05) -> None:
    with Path(records).open("a") as file, Path(f"{records}.pages").open("a") as pages:
        while True:
            try:
                with urllib.request.urlopen(f"{site}/orders", data=b"{}", timeout=3) as answer:
                    file.write(json.load(answer)["id"] + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except _FAULTS:
                # Not acknowledged: the client knows that it has to try again.
                pass
            try:
                with urllib.request.urlopen(f"{site}/", timeout=3) as answer:
                    answer.read()
            except _FAULTS as fault:
                pages.write(f"{time.time():.2f} {fault}\n")
                pages.flush()
            time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
