"""The probes of budgets: customers outside, that ask while the run goes on.

Each is a thread that sends one request at a time and never more than one each ``every``. What it
learns it keeps as one :class:`~runbook.model.runstate.ProbeSummary`, which the driver weighs at
every tick. The journal gets it when the service goes away or comes back, and every 15 s: never an
event a sample. An outage lasts from the last good answer to the next: it is never too small, and
too large by ``every`` at most. What nobody measured is *unknown*, and counts as neither.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from runbook.engine.context import RunContext
from runbook.engine.mishaps import PASSING, words
from runbook.engine.timing import probe_active
from runbook.errors import Errored
from runbook.journal import Draft
from runbook.model.ports import HttpResponse, OutsideClient
from runbook.model.runbook import Budget, Probe
from runbook.model.runstate import ProbeSummary

_ON_RECORD_EVERY = 15.0
"""Real seconds between two summaries in the journal."""
_LEAST_APART = 1.0
"""Real seconds between two of them when the service flaps."""
_LOOK_EVERY = 0.25
"""Real seconds between two looks whether it is time to ask."""

Seen = Literal["up", "down", "unknown"]


@contextmanager
def probes(ctx: RunContext) -> Iterator[None]:
    """The probes of the plan ask inside the ``with``. Nothing is started for plans without."""
    outside = ctx.outside
    wanted = [budget for budget in ctx.plan.budgets if budget.probe is not None]
    if outside is None or not wanted:
        yield
        return
    with ExitStack() as stack:
        for budget in wanted:
            stack.enter_context(_asking(ctx, budget, outside))
        yield


@contextmanager
def _asking(ctx: RunContext, budget: Budget, outside: OutsideClient) -> Iterator[None]:
    prober = _Prober(ctx, budget, outside)
    thread = threading.Thread(target=prober.ask, name=f"probe {budget.name}")
    thread.start()
    try:
        yield
    finally:
        prober.leaving.set()
        thread.join()


@dataclass(slots=True)
class Meter:
    """Adds samples up. Pure but for its own numbers; moments are the run's."""

    budget: str
    every: float
    summary: ProbeSummary | None = None
    last_good: float | None = None

    def begin(self, now: float) -> None:
        """A controller begins to measure, or goes on where another one was: what lies between is
        unknown."""
        if self.summary is None:
            self.summary = ProbeSummary(state="unknown", since=now, until=now, began=now)
        else:
            # After an end nobody was to measure; else a controller died, or went.
            left = now if self.summary.ended else self.summary.until
            self._close(self.summary.until)
            self.summary = dataclasses.replace(
                self._now, state="unknown", since=left, until=now, ended=False
            )
        self.last_good = None

    def take(self, seen: Seen, began: float, ended: float, why: str = "") -> bool:
        """One sample, sent and answered at these moments; whether the state is another now."""
        old = self.summary
        assert old is not None
        turned = seen != old.state
        if old.samples == 0:
            # Before the very first sample nobody was to know anything.
            self.summary = ProbeSummary(state=seen, since=began, until=ended, began=began)
        elif turned:
            start = self._start(seen, began, ended)
            self._close(start)
            self.summary = dataclasses.replace(self._now, state=seen, since=start)
        if seen != "down":
            self.last_good = ended if seen == "up" else None
        self.summary = dataclasses.replace(
            self._now, until=max(self._now.until, ended), samples=self._now.samples + 1,
            failed=self._now.failed + (seen == "down"), why=why or self._now.why,
        )
        return turned

    def end(self) -> None:
        """It is over: what is down now stays so in the summary."""
        self.summary = dataclasses.replace(self._now, ended=True)

    @property
    def _now(self) -> ProbeSummary:
        assert self.summary is not None
        return self.summary

    def _start(self, seen: Seen, began: float, ended: float) -> float:
        """When the new state began. An outage begins at the last good answer, where that is not so
        long ago that time was played faster meanwhile; it ends with a good answer."""
        if seen == "up":
            return ended
        good = self.last_good
        if seen == "down" and good is not None:
            return max(good, began - 3 * self.every, self._now.since)
        return max(began, self._now.since)

    def _close(self, moment: float) -> None:
        """Add up the state that ends at a moment."""
        old = self._now
        length = max(0.0, moment - old.since)
        if old.state == "down":
            self.summary = dataclasses.replace(
                old, down=old.down + length, longest=max(old.longest, length),
                outages=old.outages + 1, since=moment,
            )
        elif old.state == "unknown":
            self.summary = dataclasses.replace(old, unknown=old.unknown + length, since=moment)


class _Prober:
    def __init__(self, ctx: RunContext, budget: Budget, outside: OutsideClient) -> None:
        self._ctx = ctx
        self._budget = budget
        self._outside = outside
        probe = budget.probe
        assert probe is not None
        self._probe: Probe = probe
        self._meter = Meter(budget.name, probe.every, ctx.state.probes.get(budget.name))
        self._recorded = float("-inf")
        self._owed = False
        """The state has changed and is not on record yet."""
        self.leaving = threading.Event()

    def ask(self) -> None:
        """Until the controller leaves. Whatever breaks here must not end a run: it is noted, and
        the budget is *unknown* from then on."""
        try:
            self._ask()
        except PASSING:
            # The journal broke, or another controller took over: whoever drives finds it too.
            return
        except Exception as fault:  # noqa: BLE001 - see above
            self._ctx.append(Draft("note", data={
                "text": f"the probe of {self._budget.name} broke and asks no more: "
                        f"{words(fault)}"}))
        finally:
            self._ctx.probe_readings.pop(self._budget.name, None)

    def _ask(self) -> None:
        active = False
        real = self._ctx.real
        due = real.now()
        while not self.leaving.is_set():
            wanted = probe_active(self._ctx.state, self._budget, self._ctx.now())
            if active and not wanted and self._meter.summary is not None:
                # What is down when its last edge is reached is measured until it is up again.
                wanted = self._meter.summary.state == "down"
            if wanted and not active:
                self._meter.begin(self._ctx.now())
                self._ctx.probe_readings[self._budget.name] = self._read
                due = real.now()
            elif active and not wanted:
                self._meter.end()
                self._record()
            active = wanted
            if not active:
                self.leaving.wait(_LOOK_EVERY)
                continue
            if self.leaving.wait(max(0.0, due - real.now())):
                break
            due = max(due + self._probe.every, real.now())
            self._sample()
        if active:
            self._leave()

    def _read(self) -> ProbeSummary:
        summary = self._meter.summary
        assert summary is not None
        return summary

    def _sample(self) -> None:
        began = self._ctx.now()
        try:
            answer = self._outside.request(
                self._probe.url, method=self._probe.method, headers=self._probe.headers,
                body=self._probe.body, timeout=self._probe.timeout, via=self._probe.host,
                verify_tls=self._probe.verify_tls,
            )
        except Errored as fault:
            seen: Seen = "unknown"
            why = fault.message
        else:
            why = fault_of(self._probe, answer)
            seen = "down" if why else "up"
        if self._meter.take(seen, began, self._ctx.now(), self._ctx.world.redact(why)):
            self._owed = True
            self._ctx.signals.notify()
        self._keep()

    def _keep(self) -> None:
        """Put it on record where that is due."""
        passed = self._ctx.real.now() - self._recorded
        if passed >= _ON_RECORD_EVERY or (self._owed and passed >= _LEAST_APART):
            self._record()

    def _record(self) -> None:
        self._recorded = self._ctx.real.now()
        self._owed = False
        self._ctx.append(Draft("probe", data={
            "budget": self._budget.name, **dataclasses.asdict(self._read())}))

    def _leave(self) -> None:
        """The controller goes. Where the run is over the measuring is, too."""
        if self._ctx.state.ended_at is not None:
            self._meter.end()
        self._record()


def fault_of(probe: Probe, answer: HttpResponse) -> str:
    """Why a customer would not call an answer good; empty when it is."""
    if answer.status == 0:
        return answer.error or "no answer"
    good = answer.status in probe.status if probe.status else 200 <= answer.status <= 299
    if not good:
        return f"status {answer.status}"
    if probe.contains is not None and probe.contains not in answer.body:
        return f"the answer does not contain {probe.contains!r}"
    return ""
