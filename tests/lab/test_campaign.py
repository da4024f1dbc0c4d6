"""Random faults while the shop moves, for real; then it is resumed until it ends.

    LAB_SEED=N     replays the faults of a campaign (their kinds, steps and pauses); without it
                   the short campaign of `make test`, always the same; `random` draws a new one
    LAB_FAULTS=N   how many faults have to happen
    LAB_WORKERS=N  how many labs side by side
    LAB_MOVE=N     plays that move of the seed's campaign, and no other

The full campaign, about ten minutes on two cores:

    LAB_SEED=random LAB_FAULTS=300 LAB_WORKERS=4 python -m pytest -s tests/lab/test_campaign.py
"""

from __future__ import annotations

import itertools
import os
import random
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.lab.campaign import Played, play, table, tell
from tests.lab.faults import write_script
from tests.lab.needs import marks

pytestmark = [*marks, pytest.mark.slow]

_ASKED = os.environ.get("LAB_SEED", "20090912")
SEED = random.SystemRandom().randrange(10**9) if _ASKED == "random" else int(_ASKED)
FAULTS = int(os.environ.get("LAB_FAULTS", "8"))
WORKERS = int(os.environ.get("LAB_WORKERS", "3"))
A_MOVE = 3
"""Faults a move; one whose moment never comes does not happen."""


def test_the_move_under_faults(tmp_path: Path) -> None:
    print(f"\nLAB_SEED={SEED} LAB_FAULTS={FAULTS} LAB_WORKERS={WORKERS}")
    played = list(_campaign(tmp_path))
    print(table(SEED, played))
    problems = [one.problem for one in played if one.problem]
    assert not problems, f"LAB_SEED={SEED}\n" + "\n\n".join(problems)


def _campaign(folder: Path) -> list[Played]:
    only = os.environ.get("LAB_MOVE")
    numbers = itertools.count() if only is None else iter([int(only)])
    played: list[Played] = []
    under_way: set[Future[Played]] = set()
    with ThreadPoolExecutor(WORKERS) as pool:
        while True:
            happened = sum(len(one.happened) for one in played)
            # Those under way count as if half of their faults would happen.
            expected = happened + len(under_way) * A_MOVE // 2
            while len(under_way) < WORKERS and expected < FAULTS:
                number = next(numbers, None)
                if number is None:
                    break
                under_way.add(pool.submit(play, write_script(SEED, number, A_MOVE), folder))
                expected += A_MOVE // 2
            if not under_way:
                return played
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                played.append(future.result())
                tell(played[-1])
