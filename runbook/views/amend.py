"""What an amendment would change, for a terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.text import Text

from runbook.engine.amend import Change
from runbook.model.plan import Plan
from runbook.model.runstate import Amendment, RunState
from runbook.views.consoles import plain_console
from runbook.views.words import one_line


def show_changes(
    state: RunState, new: Plan, found: Sequence[Change], *, as_json: bool
) -> None:
    """Each difference, and of those that may not be, why."""
    if as_json:
        print(json.dumps({  # noqa: T201
            "run": state.run_id, "was": state.plan.digest, "digest": new.digest,
            "changes": [{"what": c.what, "how": c.how, "refused": c.refused} for c in found],
        }, ensure_ascii=False))
        return
    console = plain_console()
    for change in found:
        line = Text.assemble((change.what, "bold"), f": {one_line(change.how)}")
        if change.refused:
            line.append(f"  may not change: {change.refused}", style="bold red")
        console.print(line)


def chain(amendments: Sequence[Amendment]) -> list[str]:
    """The chain of digests, a line an amendment; empty where there is none."""
    return [
        f"amended by {a.who}: {a.was[:12]} → {a.digest[:12]}, {one_line(a.why)} "
        f"({len(a.changes)} change{'s' if len(a.changes) != 1 else ''})"
        for a in amendments
    ]
