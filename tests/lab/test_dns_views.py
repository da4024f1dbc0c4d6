"""Split horizon: two zones of one name at one server, moved one by one and together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from tests.lab.dns_moves import (
    DOOMED,
    SECRETS,
    axfr,
    move,
    steps,
    take_back,
)
from tests.lab.lab import Lab
from tests.lab.names import SECONDARY, view_key
from tests.lab.needs import marks
from tests.lab.zone_texts import INSIDE_NEW, INSIDE_OLD, MORE, NEW, NEW6, OLD, OLD6, RICH

pytestmark = marks


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(RICH, more_zones=MORE) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)



def outside_and_inside(lab: Lab) -> tuple[str, str]:
    return axfr(lab, "split.example"), axfr(lab, "split.example", view_key("inside"))


INSIDE = steps("split.example@inside", f"{INSIDE_OLD}, '{OLD6}'", f"{INSIDE_NEW}, '{NEW6}'")


def test_a_move_in_one_view_leaves_the_other_alone(lab: Lab, tmp_path: Path) -> None:
    outside, inner = outside_and_inside(lab)
    assert (OLD in outside, INSIDE_OLD in outside) == (True, False)
    assert (OLD in inner, INSIDE_OLD in inner) == (False, True)
    # The secondary is told of the outside only, and does not know the key of the inside.
    wrong = move(lab, tmp_path / "a", INSIDE)
    assert wrong.driven.exit_code is ExitCode.ROLLED_BACK
    assert f"({SECONDARY}): BADKEY" in wrong.state.nodes["lower"].detail
    assert outside_and_inside(lab) == (outside, inner)
    done = move(lab, tmp_path / "b", INSIDE.replace("}}", f", except_servers: {SECONDARY}}}}}"))
    assert done.driven.exit_code is ExitCode.OK, done.log
    expected = inner.replace(INSIDE_OLD, INSIDE_NEW).replace(OLD6, NEW6)
    assert outside_and_inside(lab) == (outside, "\n".join(sorted(expected.splitlines())))
    assert take_back(lab, tmp_path / "b", done).driven.exit_code is ExitCode.ROLLED_BACK
    assert outside_and_inside(lab) == (outside, inner)


def test_both_views_move_in_one_run_and_come_back(lab: Lab, tmp_path: Path) -> None:
    outside, inner = outside_and_inside(lab)
    both = steps("split.example") + INSIDE.replace("id: ", "id: in-").replace(
        "of: ", "of: in-").replace("}}", f", except_servers: {SECONDARY}}}}}") + f"""\
  - id: seen-inside
    kind: dns.verify
    with: {{zone: split.example@inside, name: www, expect: {INSIDE_NEW},
            except_servers: {SECONDARY}}}
  - id: seen-outside
    kind: dns.verify
    with: {{zone: split.example, name: www, type: address, expect: [{NEW}, '{NEW6}']}}
"""
    done = move(lab, tmp_path, both)
    assert done.driven.exit_code is ExitCode.OK, done.log
    asked = {one["server"] for one in done.outputs("seen-outside")["answers"]}
    assert len(asked) == 2
    back = take_back(lab, tmp_path, done)
    assert back.driven.exit_code is ExitCode.ROLLED_BACK, back.log
    assert outside_and_inside(lab) == (outside, inner)
    failed = move(lab, tmp_path, both + DOOMED)
    assert failed.driven.exit_code is ExitCode.ROLLED_BACK, failed.log
    assert outside_and_inside(lab) == (outside, inner)
