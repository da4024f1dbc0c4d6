"""How long planning takes, against reading and writing the same steps as plain data.

``python -m tests.bench.bench_planning`` prints, for three shapes of runbook, the seconds that
``build_plan`` takes and their ratio to ``yaml.safe_load`` (the C loader where there is one)
plus ``json.dumps`` of the same steps: what any tool would pay that does nothing with them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from runbook import templating
from runbook.model.inventory import Host, Inventory
from runbook.model.plan import Plan
from runbook.model.runbook import Runbook, SourceMap, Step
from runbook.planning import build_plan
from runbook.templating.references import references
from tests.planning.builders import KINDS

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _host(number: int) -> Host:
    return Host(name=f"web{number}", address=f"10.0.{number // 250}.{number % 250}",
                site=("east", "west")[number % 2], roles=("web",))


def _same(number: int) -> dict[str, Any]:
    return {"command": "deploy {{ release }} {{ vars.old }}", "times": "{{ tries }}"}


def _own(number: int) -> dict[str, Any]:
    return {"command": f"deploy part-{number} {{{{ release }}}}"}


def _late(number: int) -> dict[str, Any]:
    source = f"outputs.s{number - 1}.text" if number else "release"
    return {"command": "deploy {{ " + source + " }} {{ release }}"}


def _per_host(number: int) -> dict[str, Any]:
    return {"command": f"deploy {number} {{{{ host.address }}}} {{{{ release }}}}"}


def _runbook(steps: int, args: Callable[[int], dict[str, Any]], hosts: int = 0) -> Runbook:
    source = SourceMap(Path("big.yml"), {}, {})
    return Runbook(
        id="big", directory=Path(), source=source,
        vars={"release": "r9", "old": "198.51.100.10", "tries": 2},
        inventory=Inventory(hosts=tuple(_host(n) for n in range(hosts))),
        steps=tuple(
            Step(id=f"s{n}", kind="run", args=args(n), source=source, path=("steps", n),
                 hosts="role=web" if hosts else None)
            for n in range(steps)
        ),
    )


def _seconds(work: Callable[[], object]) -> float:
    """The best of three, each with no template compiled yet, as in a fresh process."""
    times = []
    for _ in range(3):
        for cache in (templating.names_used, templating._compile, references):
            cache.cache_clear()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    cases: list[tuple[str, Runbook]] = [
        ("5000 steps, templates that repeat", _runbook(5000, _same)),
        ("5000 steps, each its own template", _runbook(5000, _own)),
        ("5000 steps, each from the one before", _runbook(5000, _late)),
        ("20 steps on 200 hosts, values by host", _runbook(20, _per_host, 200)),
    ]
    for title, runbook in cases:
        text = yaml.safe_dump([
            {"id": step.id, "kind": step.kind, "with": step.args} for step in runbook.steps
        ])

        def plain(text: str = text) -> str:
            return json.dumps(yaml.load(text, Loader=_LOADER))

        def planned(runbook: Runbook = runbook) -> Plan:
            return build_plan(runbook, kinds=KINDS)

        seconds, base = _seconds(planned), _seconds(plain)
        print(f"{title}: {seconds:.2f} s, {seconds / base:.1f} × load and dump ({base:.2f} s)")


if __name__ == "__main__":
    main()
