"""``runbook skip``: leave a step out, with a reason."""

from __future__ import annotations

from runbook.cli.options import Outputs, RunRequired, State, Step, Why


def command(
    run: RunRequired,
    step: Step,
    why: Why = "",
    output: Outputs = None,
    state: State = None,
) -> None:
    from runbook.cli.answer import outputs_given, say

    given = outputs_given(run, step, output or [], state=state, observed=False)
    say(run, "skip", step=step, state=state, data={"why": why, "outputs": given})
