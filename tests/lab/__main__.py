"""``python -m tests.lab up|down``: a lab to walk about in, and its end."""

from __future__ import annotations

import sys

from tests.lab import leftovers, needs
from tests.lab.lab import Lab, describe


def main(arguments: list[str]) -> int:
    if arguments == ["up"]:
        if reason := needs.missing():
            print(reason, file=sys.stderr)
            return 1
        print("\n".join(describe(Lab.open(keep=True))))
        return 0
    if arguments == ["down"]:
        # Labs of tests that are running now are not ours to end.
        found = [lab for lab in leftovers.labs() if not leftovers.owned(lab)]
        for lab in found:
            leftovers.remove(lab)
            print(f"removed {lab}")
        if not found:
            print("no lab is open")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


sys.exit(main(sys.argv[1:]))
