"""Asks and steers the store of this host (``store.conf``), and asks others by their URL.

    storectl.py status              what it says of itself
    storectl.py is writable         whether it takes writes; likewise `is read-only`,
    storectl.py is following URL    and whether it follows that store, without a fault
    storectl.py beat                the present beat of its heart
    storectl.py heard SITE BEAT     whether it has heard a beat of SITE that is later than BEAT
    storectl.py wait-for URL        wait until nothing is missing that the store there has; it has
                                    to be read-only, or there would be no end to it
    storectl.py number              the number of its last write
    storectl.py export              every write, for `import`
    storectl.py import              take over what `export` gave, from standard input
    storectl.py promote             take writes, and follow nobody any more
    storectl.py demote NUMBER       the reverse: be read-only again, forget the writes after NUMBER,
                                    and follow whom it followed

Questions are answered by the exit status: 0 yes, 1 no (and in words where nobody could be asked).
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import web

FOLDER = Path(__file__).resolve().parent
READ_ONLY, FOLLOW = FOLDER / "read-only", FOLDER / "follow"
PATIENCE = 30.0


def here() -> str:
    return web.settings(FOLDER / "store.conf")["URL"]


def ask(place: str, url: str = "", body: str | None = None) -> Any:
    data = None if body is None else body.encode()
    return web.ask(f"{url or here()}{place}", data, timeout=10)


def set_aside(path: Path) -> None:
    if path.exists():
        path.replace(path.with_name(f"{path.name}.before"))


def put_back(path: Path) -> None:
    before = path.with_name(f"{path.name}.before")
    if before.exists():
        before.replace(path)


def is_so(words: list[str]) -> bool:
    told = ask("/status")
    if words == ["writable"]:
        return not told["read_only"]
    if words == ["read-only"]:
        return bool(told["read_only"])
    return words == ["following", told["follows"]] and not told["fault"]


def heard(site: str, beat: int) -> bool:
    """Strictly later: the write that was the last may have come after ``beat`` itself."""
    return int(ask("/status")["heard"].get(site, 0)) > beat


def wait_for(url: str) -> str:
    there = ask("/status", url)
    if not there["read_only"]:
        raise SystemExit(f"{url} takes writes: freeze it first, or it is never caught up with")
    deadline = time.monotonic() + PATIENCE
    while not heard(there["site"], int(there["beat"])):
        if time.monotonic() > deadline:
            raise SystemExit(f"not caught up after {PATIENCE:.0f} s: {ask('/status')}")
        time.sleep(0.05)
    return f"has every write of {there['site']}, {there['number']} of them"


def promote() -> str:
    set_aside(FOLLOW)
    set_aside(READ_ONLY)
    return f"number={ask('/status')['number']}"


def demote(number: int) -> str:
    put_back(READ_ONLY)
    cut = ask(f"/rewind?to={number}", body="")["cut"]
    put_back(FOLLOW)
    return f"forgot {cut} writes after {number}"


def export() -> str:
    return json.dumps(ask("/stream?after=0"))


def take(text: str) -> str:
    return f"number={ask('/append', body=text)['number']}"


def main(args: list[str]) -> int:
    said: str
    match args:
        case ["status"]:
            said = json.dumps(ask("/status"))
        case ["beat"]:
            said = str(ask("/status")["beat"])
        case ["number"]:
            said = str(ask("/status")["number"])
        case ["is", *words]:
            return 0 if is_so(words) else 1
        case ["heard", site, beat]:
            return 0 if heard(site, int(beat)) else 1
        case ["wait-for", url]:
            said = wait_for(url)
        case ["export"]:
            said = export()
        case ["import"]:
            said = take(sys.stdin.read())
        case ["promote"]:
            said = promote()
        case ["demote", number]:
            said = demote(int(number))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print(said)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except urllib.error.HTTPError as fault:
        sys.exit(f"{fault}: {fault.read().decode(errors='replace')}")
    except (OSError, ValueError) as fault:
        sys.exit(f"nobody could be asked: {fault}")
