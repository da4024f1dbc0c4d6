"""Keeping that a plan was rehearsed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from runbook.cli import wiring
from runbook.journal import Rehearsal, Store
from runbook.model.plan import Plan


def record(
    store: Store, plan: Plan, level: str, run_id: str, ok: bool, data: Mapping[str, Any]
) -> None:
    """Under the digest of the plan that is to run live, whichever was played."""
    store.record_rehearsal(Rehearsal(
        plan_digest=plan.digest, level=level, run_id=run_id, ts=time.time(),
        who=wiring.person(), ok=ok, data={**data, "runbook": plan.runbook},
    ))
