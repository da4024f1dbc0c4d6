"""A rehearsal must not reach past its world into the machine it is played on."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.cli.embedded import embedded
from runbook.cli.wiring import load_plan
from runbook.errors import Refused
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.sandbox.reach import absolute_paths


def plan(**args: object) -> Plan:
    return Plan(runbook="r", steps=(PlannedStep(
        id="s", kind="shell", estimate=1, estimate_undo=1,
        nodes=(Node(id="s", step="s", args=args),)),))


@pytest.mark.parametrize(("args", "expected"), [
    ({"command": "rm -rf /srv/shop"}, ["/srv/shop"]),
    ({"command": "echo x >/etc/motd"}, ["/etc/motd"]),
    ({"command": "tar -C/var/lib x"}, []),  # Glued to an option: seen as part of it.
    ({"path": "/etc/app.conf"}, ["/etc/app.conf"]),
    ({"command": "cat 'a' \"/opt/b\""}, ["/opt/b"]),
    ({"command": "/usr/bin/env true >/dev/null 2>&1"}, []),
    ({"command": "curl http://shop.example/health"}, []),
    ({"command": "cp data/a data/b; ls ./x ../y ~/z"}, []),
    ({"url": "http://x/", "contains": "/srv"}, []),
    ({"env": {"DIR": "/srv/shop"}}, ["/srv/shop"]),
])
def test_absolute_paths_are_found(args: dict[str, object], expected: list[str]) -> None:
    assert [path for _, path in absolute_paths(plan(**args))] == expected


def test_the_example_names_none() -> None:
    example = Path(__file__).parents[2] / "examples" / "shop-2009" / "runbook.yml"
    assert absolute_paths(load_plan(example, [])) == []


def test_such_a_plan_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    config = tmp_path / "sandbox.yml"
    with pytest.raises(Refused, match="s: /srv/shop"), embedded(
        plan(command="rm -rf /srv/shop"), config
    ):
        raise AssertionError("it was started")
