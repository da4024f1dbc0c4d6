"""A push as a member of the team, who comes through the block: ``qa.py URL``.

The team's token is in the environment variable TEAM. Prints ``id=…`` of the push.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request


def main(url: str) -> None:
    request = urllib.request.Request(
        f"{url}/pushes", b"quality", {"X-Team": os.environ["TEAM"]}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(f"id={json.load(answer)['id']}")


if __name__ == "__main__":
    main(sys.argv[1])
