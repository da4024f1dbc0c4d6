"""Moves orders between databases.

    orders.py export FILE   a consistent copy of the orders, also while the shop runs
    orders.py merge FILE    take over the orders of FILE that are missing here
    orders.py count [FILE]  how many orders there are, here or in FILE
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

DATABASE = Path(__file__).resolve().parent.parent / "data" / "orders.db"


def export(path: Path) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    source, target = sqlite3.connect(DATABASE), sqlite3.connect(new)
    source.backup(target)
    source.close()
    target.close()
    new.replace(path)


def merge(path: Path) -> int:
    link = sqlite3.connect(DATABASE, timeout=10)
    link.execute("ATTACH ? AS other", (str(path),))
    with link:
        taken = link.execute("INSERT OR IGNORE INTO orders SELECT * FROM other.orders").rowcount
    link.close()
    return taken


def count(path: Path = DATABASE) -> int:
    link = sqlite3.connect(path)
    (number,) = link.execute("SELECT count(*) FROM orders").fetchone()
    link.close()
    return number


def main(args: list[str]) -> int:
    if args[:1] == ["export"] and len(args) == 2:
        export(Path(args[1]))
        print(f"exported {count(Path(args[1]))} orders")
    elif args[:1] == ["merge"] and len(args) == 2:
        print(f"merged {merge(Path(args[1]))} orders")
    elif args[:1] == ["count"] and len(args) <= 2:
        print(count(*map(Path, args[1:])))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
