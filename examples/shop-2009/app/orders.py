"""Moves orders between databases.

    orders.py export FILE   a consistent copy of the orders, also while the shop runs
    orders.py merge FILE    take over the orders of FILE that are missing here
    orders.py has FILE      whether all orders of FILE are here (exit status 0)
    orders.py count [FILE]  how many orders there are, here or in FILE
    orders.py empty         forget all orders, of a shop that is closed: they are elsewhere now
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

SHOP = Path(__file__).resolve().parent
DATABASE = SHOP.parent / "data" / "orders.db"
MAINTENANCE = SHOP / "maintenance.on"


def export(path: Path) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    source, target = sqlite3.connect(DATABASE, timeout=10), sqlite3.connect(new)
    with source:
        # An order that is being written is waited for; those that come later find the shop closed.
        source.execute("BEGIN IMMEDIATE")
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


def has(path: Path) -> bool:
    link = sqlite3.connect(DATABASE, timeout=10)
    link.execute("ATTACH ? AS other", (str(path),))
    missing = link.execute("SELECT id FROM other.orders EXCEPT SELECT id FROM orders").fetchall()
    link.close()
    return not missing


def count(path: Path = DATABASE) -> int:
    link = sqlite3.connect(path)
    (number,) = link.execute("SELECT count(*) FROM orders").fetchone()
    link.close()
    return number


def empty() -> None:
    if not MAINTENANCE.exists():
        raise SystemExit("the shop is open: close it before its orders are forgotten")
    link = sqlite3.connect(DATABASE, timeout=10)
    with link:
        link.execute("DELETE FROM orders")
    link.close()


def main(args: list[str]) -> int:
    if args[:1] == ["export"] and len(args) == 2:
        export(Path(args[1]))
        print(f"exported {count(Path(args[1]))} orders")
    elif args[:1] == ["merge"] and len(args) == 2:
        print(f"merged {merge(Path(args[1]))} orders")
    elif args[:1] == ["has"] and len(args) == 2:
        return 0 if has(Path(args[1])) else 1
    elif args == ["empty"]:
        empty()
    elif args[:1] == ["count"] and len(args) <= 2:
        print(count(*map(Path, args[1:])))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
