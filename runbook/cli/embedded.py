"""Playing a plan in an embedded world, watched by an outside client."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook.cli.wiring import kinds
from runbook.errors import NotFound, Refused
from runbook.journal import Store
from runbook.model.kind import Kind
from runbook.model.plan import Plan
from runbook.sandbox.handle import WorldHandle, start_world
from runbook.sandbox.judge import RunningJudge, start_judge
from runbook.sandbox.judgement import Judgement
from runbook.sandbox.reach import absolute_paths


@dataclass(frozen=True, slots=True)
class Embedded:
    """A world that is up, with the outside client at work where sandbox.yml describes one."""

    world: WorldHandle
    endpoints_file: Path
    judge: RunningJudge | None


def sandbox_config(runbook_file: Path, option: Path | None) -> Path:
    """``--config``, else ``sandbox.yml`` beside the runbook. Raises NotFound."""
    path = option or runbook_file.parent / "sandbox.yml"
    if not path.exists():
        raise NotFound(
            f"there is no {path}",
            hint="a sandbox rehearsal wants a small sandbox.yml beside the runbook: the files "
            "and programs its hosts start with; `runbook explain sandbox` tells its format",
        )
    return path


@contextmanager
def embedded(
    plan: Plan, config: Path, *, fail: tuple[str, ...] = (), real_time: bool = False,
    traffic: bool = True, longest_wait: float | None = None,
) -> Iterator[Embedded]:
    """Bring a world up for as long as the context lasts; nothing is left behind.

    ``fail``: steps that are made to fail there. ``traffic``: let the outside client work.
    ``longest_wait``: real seconds that no wait outlasts, where sandbox.yml allows more.
    Raises Refused for a plan that would reach past the world.
    """
    _refuse_reaching_out(plan)
    _refuse_weights(plan)
    directory = Path(tempfile.mkdtemp(prefix="runbook-world-"))
    judge: RunningJudge | None = None
    try:
        with start_world(
            plan, config, directory, real_time=real_time, longest_wait=longest_wait
        ) as world:
            endpoints_file = directory / "endpoints.json"
            if fail:
                endpoints_file = directory / "endpoints-faulty.json"
                faulty = world.endpoints.model_copy(update={"fail": fail})
                endpoints_file.write_text(faulty.model_dump_json())
            if traffic and _has_traffic(config):
                judge = start_judge(world, config, directory / "attempts.jsonl")
            try:
                yield Embedded(world, endpoints_file, judge)
            except BaseException:
                if judge is not None:
                    judge.cancel()
                raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _refuse_reaching_out(plan: Plan) -> None:
    """A rehearsal must not change the machine it runs on."""
    found = absolute_paths(plan)
    if found:
        shown = "; ".join(f"{step}: {path}" for step, path in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Refused(
            f"these steps name absolute paths, which would be those of this machine: {shown}{more}",
            hint="in a runbook that is to be played in a sandbox, name paths relative to the "
            "login folder; nothing was started",
        )


def _refuse_weights(plan: Plan) -> None:
    found = [
        step.id for step in plan.steps
        if step.nodes and kinds()[step.kind].weighted_zones is not Kind.weighted_zones
    ]
    if found:
        raise Refused(
            f"a sandbox's name server has no weighted sets, which these steps move: "
            f"{', '.join(found)}",
            hint="rehearse them with --level probe, which reads the real weights and shows every "
            "stage; nothing was started",
        )


def _has_traffic(config: Path) -> bool:
    from runbook.sandbox.config import load_config

    return load_config(config).traffic is not None


def keep_judgement(store: Store, run_id: str, judgement: Judgement) -> None:
    """Keep the verdict with the run, where its report finds it."""
    path = store.run_directory(run_id) / "judgement.json"
    path.write_text(json.dumps(judgement.model_dump(mode="json"), indent=1))
