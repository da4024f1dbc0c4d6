"""``dns.shift`` by the whole engine, at Route 53's double, with a real health check: each stage is
journaled and held, a bad check leads back at once, and a controller may die anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from runbook.engine.begin import begin, take_up
from runbook.engine.context import Observer, RunContext
from runbook.engine.driver import Driven, drive
from runbook.errors import ExitCode
from runbook.journal import Store
from runbook.kinds import registry
from runbook.loading import load_runbook
from runbook.model.actions import Action, ActionKey, ActionResult
from runbook.model.dns import RRset
from runbook.model.folding import fold
from runbook.model.ports import Progress
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from runbook.planning import build_plan
from runbook.transports.dns import DnsTransport
from runbook.transports.world import TransportWorld
from tests.dns_lab import NEW, OLD, OneSecret
from tests.engine.miniworld import DyingLease, Killed, ManualClock, Trigger
from tests.transports.dns_backends import AWS_KEYS
from tests.transports.route53_double import Route53Double

NAME = "www.shop.example."
WAS = {"east": 200, "west": 0}
STAGES = [{"east": 95, "west": 5}, {"east": 75, "west": 25}, {"east": 0, "west": 100}]
HOLD = 600.0


class Pool(Route53Double):
    """Remembers every distribution of weights it came by, and when."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.past: list[dict[str, int]] = []
        self.times: list[float] = []

    def answer(self, method: str, *rest: Any) -> tuple[int, str, bytes]:
        found = super().answer(method, *rest)
        if method == "POST" and found[0] == 200:
            self.past.append(self.weights(NAME))
            self.times.append(self.clock.now())
        return found


class Shifted:
    """One run of a shift, by as many controllers as it takes."""

    def __init__(self, folder: Path, *, on_failure: str = "hold", retry: int = 0) -> None:
        self.clock = ManualClock()
        self.pool = Pool(self.clock)
        self.pool.put(RRset(name="shop.example.", rtype="NS", ttl=60, rdatas=("ns.example.",)))
        self._reset()
        self.start = self.stored
        self.healthy_up_to = 100
        """The share of west beyond which the service is not well."""
        self.web = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self.web.serve_forever, args=(0.02,))
        self._thread.start()
        (folder / "keys").write_text(AWS_KEYS)
        (folder / "runbook.yml").write_text(f"""\
runbook: shifting
secrets: {{aws: {{file: keys}}}}
zones: {{shop.example: {{provider: route53, endpoint: "{self.pool.url}", key: aws}}}}
steps:
  - id: shift
    kind: dns.shift
    with:
      {{zone: shop.example, name: www, from: east, to: west, stages: [5%, 25%, 100%], hold: 10m}}
    verify: [{{http: "http://127.0.0.1:{self.web.server_port}/health", status: 200}}]
    on_failure: {on_failure}
    retry: {retry}
""")
        self.plan = build_plan(
            load_runbook(folder / "runbook.yml", kinds=registry()), kinds=registry()
        )
        self.store = Store(folder / "state")
        self.run_id = self.store.create(self.plan, who="ada", now=0.0)
        self._dns = DnsTransport(
            self.plan.zones, secrets=OneSecret(AWS_KEYS), clock=self.clock, api_timeout=5.0
        )
        self._folder = folder

    def _reset(self) -> None:
        for name, address in (("east", OLD), ("west", NEW)):
            self.put(name, WAS[name], address)
        self.pool.past, self.pool.times = [], []

    def anew(self) -> None:
        """Another run of the same plan, from the same start."""
        self._reset()
        self.run_id = self.store.create(self.plan, who="ada", now=0.0)

    def put(self, name: str, weight: int, address: str) -> None:
        self.pool.put(RRset(name=NAME, rtype="A", ttl=60, rdatas=(address,)),
                      SetIdentifier=name, Weight=weight)

    @property
    def stored(self) -> dict[Any, Any]:
        return {key: dict(data) for key, data in self.pool.sets.items()}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shifted = self

        class Health(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                well = shifted.pool.weights(NAME)["west"] <= shifted.healthy_up_to
                self.send_response(200 if well else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing is printed."""

        return Health

    def drive(self, kill_at: int | None = None, *, back: bool = False) -> Driven | None:
        """One controller's life; None when it was killed."""
        trigger = Trigger(kill_at)
        lease = cast(Any, DyingLease(self.store.acquire(self.run_id, "ada"), trigger))
        world = _World(self, lease.epoch, trigger)
        shared: dict[str, Any] = {"kinds": registry(), "observer": Observer(),
                                  "real": self.clock, "who": "ada"}
        try:
            if self.store.events(self.run_id):
                ctx: RunContext = take_up(self.store, lease, world, back=back, **shared)
            else:
                ctx = begin(lease, self.plan, world, level="live", **shared)
            return drive(ctx)
        except Killed:
            return None
        finally:
            lease.release()
            world.close()

    def before_change(self, number: int, what: Callable[[], None]) -> None:
        """Let somebody else act right before the n-th change arrives."""
        self.pool.meanwhile = what if number == 1 else (
            lambda: self.before_change(number - 1, what)
        )

    def ask_back(self, **data: Any) -> Driven | None:
        self.store.post(
            self.run_id, "rollback", who="ada", data=data, now=self.clock.now()
        )
        return self.drive(back=True)

    @property
    def state(self) -> RunState:
        plan, events = self.store.load(self.run_id)
        return fold(self.run_id, plan, events)

    def stop(self) -> None:
        self.pool.stop()
        self.web.shutdown()
        self.web.server_close()
        self._thread.join()


class _World(TransportWorld):
    """The real one; a controller of it can be killed around every effect."""

    def __init__(self, shifted: Shifted, epoch: int, trigger: Trigger) -> None:
        super().__init__(
            shifted.plan, run_id=shifted.run_id, state_dir=shifted._folder / "state",
            epoch=epoch, clock=shifted.clock, endpoints=None,
        )
        self._dns = shifted._dns  # opening its client anew for each life would take most time
        self._trigger = trigger

    def perform(self, action: Action, key: ActionKey, progress: Progress) -> ActionResult:
        self._trigger()
        result = super().perform(action, key, progress)
        self._trigger()
        return result


@contextmanager
def shifted(folder: Path, **options: Any) -> Iterator[Shifted]:
    folder.mkdir(exist_ok=True)
    found = Shifted(folder, **options)
    try:
        yield found
    finally:
        found.stop()


def kinds_of(run: Shifted) -> list[tuple[str, str]]:
    _, events = run.store.load(run.run_id)
    return [(e.op, e.kind) for e in events if e.node == "shift"]


def test_each_stage_is_done_held_checked_and_journaled(tmp_path: Path) -> None:
    with shifted(tmp_path) as run:
        driven = run.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.OK, driven.why
        assert run.pool.past == STAGES
        assert [b - a for a, b in zip(run.pool.times, run.pool.times[1:], strict=False)] == [
            HOLD, HOLD
        ]
        assert run.clock.now() >= run.pool.times[-1] + HOLD, "the last one is held as well"
        status = run.state.nodes["shift"]
        assert status.outputs["weights"] == {f"{NAME} A": STAGES[-1]}
        # A change, a hold and a look at each stage; `done` stands for the last look.
        assert kinds_of(run).count(("do", "acted")) == 8
        assert status.detail.startswith(f"{NAME} A: east 0, west 100; http.check: 1 answer")


def test_it_is_taken_back_to_the_weights_observed_before(tmp_path: Path) -> None:
    with shifted(tmp_path) as run:
        run.drive()
        driven = run.ask_back()
        assert driven is not None
        assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
        assert run.stored == run.start
        assert run.pool.past == [*STAGES, WAS], "at once, not by stages"


@pytest.mark.parametrize(
    ("on_failure", "code", "phase"),
    [("hold", ExitCode.HELD, RunPhase.HELD),
     ("rollback", ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK),
     ("continue", ExitCode.OK, RunPhase.DONE)],
)
def test_a_bad_check_leads_back_at_once(
    tmp_path: Path, on_failure: str, code: ExitCode, phase: RunPhase
) -> None:
    with shifted(tmp_path, on_failure=on_failure) as run:
        run.healthy_up_to = 10
        driven = run.drive()
        assert driven is not None
        assert (driven.exit_code, run.state.phase) == (code, phase), driven.why
        assert run.pool.past == [*STAGES[:2], WAS]
        assert run.stored == run.start
        status = run.state.nodes["shift"]
        assert status.state is NodeState.FAILED
        assert "stage 2 of 3, 25% on west: http.check: 1 of 1 answers are not" in status.detail
        assert "it went back by itself" in status.detail
        assert not status.intended, "nothing is left of it to undo"


def test_after_the_cause_is_mended_it_begins_anew(tmp_path: Path) -> None:
    with shifted(tmp_path) as run:
        run.healthy_up_to = 10
        run.drive()
        run.healthy_up_to = 100
        driven = run.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.OK, driven.why
        assert run.pool.past == [*STAGES[:2], WAS, *STAGES]
        assert run.ask_back() is not None
        assert run.stored == run.start


def test_a_retry_begins_anew_by_itself(tmp_path: Path) -> None:
    with shifted(tmp_path, retry=1) as run:
        run.healthy_up_to = 10
        driven = run.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.HELD
        assert run.pool.past == [*STAGES[:2], WAS] * 2


def test_weights_that_somebody_else_changed_are_left_to_people(tmp_path: Path) -> None:
    """Neither the next stage nor the way back overwrites them, unless a person says so."""
    with shifted(tmp_path) as run:
        run.before_change(2, lambda: run.put("west", 7, NEW))
        driven = run.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.HELD
        assert "the zone is not as the plan saw it" in run.state.nodes["shift"].detail
        assert run.pool.past == STAGES[:1]
        back = run.ask_back()
        assert back is not None
        assert back.exit_code is ExitCode.NOT_RESTORED
        assert "drift" in run.state.nodes["shift"].detail
        assert run.pool.weights(NAME) == {"east": 95, "west": 7}
        back = run.ask_back(accept_drift=["shift"])
        assert back is not None
        assert back.exit_code is ExitCode.ROLLED_BACK, back.why
        assert run.stored == run.start


def test_nor_does_the_way_back_after_a_bad_check(tmp_path: Path) -> None:
    with shifted(tmp_path) as run:
        run.healthy_up_to = 10
        run.before_change(3, lambda: run.put("west", 77, NEW))
        driven = run.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.HELD
        status = run.state.nodes["shift"]
        assert status.state is NodeState.ROLLBACK_FAILED
        assert "west 77" in status.detail
        assert run.pool.weights(NAME) == {"east": 75, "west": 77}


def test_a_controller_may_die_anywhere_on_the_way_there(tmp_path: Path) -> None:
    """Killed after every commit and every effect (before the next of them nothing else happens):
    each stage is done once, in order, and held in full."""
    with shifted(tmp_path) as run:
        for edge in range(4, 80, 2):
            run.anew()
            if run.drive(kill_at=edge) is not None:
                break
            run.clock.wait(run.clock.now() + 7)
            if run.state.phase is not RunPhase.DONE:
                driven = run.drive()
                assert driven is not None
                assert driven.exit_code is ExitCode.OK, (edge, driven.why)
            assert run.pool.past == STAGES, edge
            gaps = [b - a for a, b in zip(run.pool.times, run.pool.times[1:], strict=False)]
            assert all(HOLD <= gap <= HOLD + 7 for gap in gaps), (edge, gaps)
        assert edge >= 30, "as many deaths"


def test_a_controller_may_die_anywhere_on_the_way_back(tmp_path: Path) -> None:
    with shifted(tmp_path) as run:
        run.healthy_up_to = 10
        for edge in range(20, 80, 2):
            run.anew()
            if run.drive(kill_at=edge) is not None:
                break
            if run.state.phase is not RunPhase.HELD:
                driven = run.drive()
                assert driven is not None
                assert driven.exit_code is ExitCode.HELD, (edge, driven.why)
            assert run.pool.past == [*STAGES[:2], WAS], edge
            assert run.stored == run.start
            assert run.state.nodes["shift"].state is NodeState.FAILED
        assert edge >= 30, "as many deaths"


def test_a_rollback_of_what_was_cut_short_goes_back_from_the_stage_it_had_come_to(
    tmp_path: Path,
) -> None:
    """Killed after every commit and effect of the first two stages, and then not resumed."""
    with shifted(tmp_path) as run:
        for edge in range(6, 22, 2):
            run.anew()
            assert run.drive(kill_at=edge) is None
            done = len(run.pool.past)
            driven = run.ask_back()
            assert driven is not None
            assert driven.exit_code is ExitCode.ROLLED_BACK, (edge, driven.why)
            assert run.stored == run.start, edge
            assert run.pool.past == [*STAGES[:done], *([WAS] if done else [])], edge
        assert done == 2
