"""The simulation: its schedules, its way back, what it counts, and what it takes durations from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.engine.history import Choice, History, Sample
from runbook.engine.simulate.prediction import Prediction
from runbook.engine.simulate.takes import (
    PACE,
    Difference,
    Takes,
    differences_in,
    estimated,
    known,
    measured,
    pace_of,
)
from runbook.engine.simulate.work import Lag, Layout, Work, lay_out
from runbook.errors import Refused
from runbook.kinds import registry
from runbook.model.dns import Change, RRset
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.runbook import Budget, Policy, Retry, Window
from runbook.planning.timeline import build_timeline
from tests.bench.naive_simulation import one_run

np = pytest.importorskip("numpy")

from runbook.engine.simulate.back import way_back  # noqa: E402
from runbook.engine.simulate.draw import Draws, Nodes  # noqa: E402
from runbook.engine.simulate.gains import ends_if_halved, ends_if_halved_in_slots  # noqa: E402
from runbook.engine.simulate.predict import predict  # noqa: E402
from runbook.engine.simulate.schedule import decided_the_end, schedule, steps_share_slots  # noqa: E402
from runbook.engine.simulate.slots import in_slots  # noqa: E402

INF = float("inf")
WINDOW = Window(start=1000.0, duration=600.0, timezone="UTC")


def work(name: str, after: tuple[int, ...] = (), takes: Takes | float = 10.0, **more: Any) -> Work:
    """One step on one node that takes exactly so long, but for what is said."""
    one = takes if isinstance(takes, Takes) else known(takes)
    nodes = more.pop("nodes", 1)
    found = Work(
        id=name, after=after, takes=(one,) * nodes, alike=False, batches=(nodes,), soak=0.0,
        not_before=-INF, until=-INF, lag=None, takes_slot=True, chance=1.0, failure=0.0,
        retry=Retry(wait=0), tolerated=0, turns_back=True, undo=(known(0.0),), undo_batches=(1,),
        back_waits=(), no_return=False, irreversible=False,
    )
    return replace(found, **more)


def layout(*steps: Work, slots: int = 32) -> Layout:
    return Layout(steps, 1000.0, slots, ())


def foretell(lay: Layout, *, window: Window | None = WINDOW, runs: int = 2000, seed: int = 1,
             budgets: tuple[Budget, ...] = ()) -> Prediction:
    plan = Plan(runbook="r", window=window, budgets=budgets)
    return predict(plan, lay, runs=runs, seed=seed, certainty=0.95, level="live", dated=True)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Any graph, with nodes, batches, soaks, anchors, waits for another step, and failures."""
    steps: list[Work] = []
    for place in range(draw(st.integers(1, 9))):
        after = draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else set()
        nodes = draw(st.integers(1, 5))
        first = draw(st.integers(1, nodes))
        behind = sorted(after)
        steps.append(work(
            f"s{place}", tuple(behind), estimated(draw(st.floats(0.5, 60.0))), nodes=nodes,
            batches=(first, nodes - first) if first < nodes else (nodes,),
            soak=draw(st.sampled_from([0.0, 7.0])),
            not_before=draw(st.sampled_from([-INF, -INF, 20.0, 90.0])),
            until=draw(st.sampled_from([-INF, -INF, -INF, 70.0])),
            lag=Lag(behind[0], draw(st.floats(0.0, 80.0)))
            if behind and draw(st.booleans()) else None,
            takes_slot=draw(st.booleans()),
            failure=draw(st.sampled_from([0.0, 0.3])),
            tolerated=draw(st.integers(0, 2)),
            undo=(estimated(draw(st.floats(0.5, 30.0))),),
        ))
    return Layout(tuple(steps), 0.0, draw(st.sampled_from([1, 2, 3, 64])), ())


@given(layouts(), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_schedules_are_those_of_a_plain_event_loop(lay: Layout, seed: int) -> None:
    """Graph, slots, batches, soaks, anchors, waits and thresholds, on the very same draws."""
    draws = Draws(lay, seed, 0, 7)
    found = schedule(draws)
    nodes = [draws.nodes(place) for place in range(len(lay.steps))]
    for run in range(7):
        starts, ends, failed_at = one_run(
            lay, [one.seconds[:, run] for one in nodes],
            [[False] * len(one.seconds) if one.failed is None else list(one.failed[:, run])
             for one in nodes],
        )
        assert found.starts[:, run] == pytest.approx(starts)
        assert found.ends[:, run] == pytest.approx(ends)
        if found.failed_at is not None:
            assert found.failed_at[:, run] == pytest.approx(failed_at)


@given(layouts(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_what_shortening_a_step_buys_is_what_a_new_schedule_says(lay: Layout, seed: int) -> None:
    lay = replace(lay, max_parallel=64)
    draws = Draws(lay, seed, 0, 5)
    found = schedule(draws)
    assert found.own is not None
    halved = ends_if_halved(lay, found)
    for place, one in enumerate(lay.steps):
        half = one if one.lag is None else replace(one, lag=Lag(one.lag.of, one.lag.seconds / 2))
        # The whole step in half its time: one node, and no soak between batches.
        whole = [
            replace(step, takes=(known(0.0),), batches=(1,), soak=0.0) for step in lay.steps
        ]
        whole[place] = replace(half, takes=(known(0.0),), batches=(1,), soak=0.0)
        for run in range(5):
            seconds = [[found.own[p, run] / (2 if p == place else 1)] for p in range(len(whole))]
            _, ends, _ = one_run(replace(lay, steps=tuple(whole)), seconds)
            assert halved[place, run] == pytest.approx(max(ends))


def test_gains_where_slots_bind_are_served_anew() -> None:
    lay = layout(work("a"), work("b"), work("c", takes=30.0), slots=1)
    draws = Draws(lay, 1, 0, 3)
    before, *after = ends_if_halved_in_slots(lay, draws, [0, 2])
    assert before == pytest.approx([50.0] * 3)
    assert [one[0] for one in after] == pytest.approx([45.0, 35.0])


@given(layouts(), st.integers(0, 2**31), st.data())
@settings(max_examples=60, deadline=None)
def test_the_way_back_is_the_longest_chain_of_undos_of_what_has_begun(
    lay: Layout, seed: int, data: st.DataObject
) -> None:
    if len(lay.steps) > 2:
        at = data.draw(st.integers(0, len(lay.steps) - 2))
        behind = data.draw(st.sets(st.integers(at + 1, len(lay.steps) - 1), max_size=2))
        steps = list(lay.steps)
        steps[at] = replace(steps[at], undo=(known(0.0),), back_waits=tuple(
            Lag(of, 10.0 * of) for of in sorted(behind)
        ))
        lay = replace(lay, steps=tuple(steps))
    draws = Draws(lay, seed, 0, 4)
    found = schedule(draws)
    back = way_back(draws, found.starts)
    undos = [draws.undo(place) for place in range(len(lay.steps))]
    moments = np.concatenate([found.ends, found.starts + 1e-3])
    seconds = back.at(moments)
    for run in range(4):
        for row, moment in enumerate(moments[:, run]):
            begun = [p for p in range(len(lay.steps)) if found.starts[p, run] < moment]
            assert seconds[row, run] == pytest.approx(_back(lay, undos, begun, run))
        last = back.last_decision(200.0)[run]
        for moment in (last - 1e-6, last - 20.0):
            begun = [p for p in range(len(lay.steps)) if found.starts[p, run] < moment]
            assert moment + _back(lay, undos, begun, run) <= 200.0 + 1e-6
        begun = [p for p in range(len(lay.steps)) if found.starts[p, run] < last + 1e-6]
        assert last + 1e-6 + _back(lay, undos, begun, run) > 200.0


def _back(lay: Layout, undos: Any, begun: list[int], run: int) -> float:
    """By the definition: undo after undo, from the last steps to the first."""
    over: dict[int, float] = {}
    for place in reversed(begun):
        after = [p for p in begun if place in lay.steps[p].after]
        waits = [lag.seconds for lag in lay.steps[place].back_waits if lag.of in begun]
        reached = [p for p in begun if _leads_to(lay, p, place)]
        own = undos[place][run] + (max(waits) if waits and reached else 0.0)
        over[place] = max((over[p] for p in after), default=0.0) + own
    return max(over.values(), default=0.0)


def _leads_to(lay: Layout, later: int, earlier: int) -> bool:
    return later != earlier and any(
        one == earlier or _leads_to(lay, one, earlier) for one in lay.steps[later].after
    )


def test_the_chain_that_decides_the_end_stops_at_an_anchor() -> None:
    lay = layout(
        work("early"), work("dated", (0,), not_before=100.0), work("side", takes=5.0),
        work("last", (1, 2)),
    )
    found = schedule(Draws(lay, 1, 0, 3))
    assert decided_the_end(found)[:, 0].tolist() == [False, True, False, True]


def test_who_holds_the_slot_decides_the_end() -> None:
    lay = layout(work("first", takes=50.0), work("second"), slots=1)
    found = schedule(Draws(lay, 1, 0, 2))
    assert found.ends[:, 0].tolist() == [50.0, 60.0]
    assert decided_the_end(found)[:, 0].tolist() == [True, True]


def test_steps_share_slots_only_where_they_can_be_at_work_at_the_same_time() -> None:
    wide = layout(work("a", nodes=3, batches=(3,)), work("b", nodes=2, batches=(2,)), slots=4)
    assert steps_share_slots(wide)
    assert not steps_share_slots(replace(wide, max_parallel=5))
    chain = layout(*(work(f"s{n}", (n - 1,) if n else (), nodes=9) for n in range(9)), slots=2)
    assert not steps_share_slots(chain)
    waiting = layout(*(work(f"w{n}", takes_slot=False) for n in range(9)), slots=2)
    assert not steps_share_slots(waiting)


def test_the_same_seed_gives_the_same_prediction() -> None:
    lay = layout(work("a", takes=estimated(60.0)), work("b", (0,), estimated(30.0)))
    assert foretell(lay) == foretell(lay)
    assert foretell(lay).end != foretell(lay, seed=2).end


def test_an_estimate_is_the_middle_and_nine_in_ten_lie_between_half_and_double() -> None:
    takes = foretell(layout(work("a", takes=estimated(100.0))), runs=20_000).steps[0].takes
    assert takes.p50 == pytest.approx(100.0, rel=0.03)
    assert (takes.p05, takes.p95) == (pytest.approx(50.0, rel=0.05), pytest.approx(200.0, rel=0.05))


def test_errors_of_estimates_go_together_and_do_not_cancel_out() -> None:
    steps = [work(f"s{n}", (n - 1,) if n else (), estimated(10.0)) for n in range(50)]
    together = foretell(layout(*steps), runs=4000).took
    alone = [replace(s, takes=(replace(s.takes[0], shared=0.0),)) for s in steps]
    apart = foretell(layout(*alone), runs=4000).took
    assert together.p95 - together.p05 > 3 * (apart.p95 - apart.p05)


def test_window_rollback_and_the_latest_decision() -> None:
    # 100 s each; the way back from the end of b takes 90 s; the window is 600 s long.
    lay = layout(
        work("a", takes=100.0, undo=(known(40.0),)), work("b", (0,), 100.0, undo=(known(50.0),)),
    )
    p = foretell(lay)
    assert (p.fits, p.fits_with_back_out) == (1.0, 1.0)
    assert p.end.p90 == pytest.approx(1200.0)
    assert p.decide is not None
    assert p.decide.by == pytest.approx(1600.0 - 90.0)
    short = foretell(lay, window=Window(start=1000.0, duration=250.0, timezone="UTC"))
    assert (short.fits, short.fits_with_back_out) == (1.0, 0.0)
    assert short.decide is not None
    assert short.decide.by == pytest.approx(1160.0), "90 s before the window closes, b under way"
    assert [s.back_in_time for s in short.steps] == [1.0, 0.0]
    late = foretell(lay, window=Window(start=1000.0, duration=150.0, timezone="UTC"))
    assert (late.fits, late.ok) == (0.0, False)


def test_a_point_of_no_return_ends_the_time_to_decide() -> None:
    p = foretell(layout(work("a", takes=100.0), work("b", (0,), 100.0, no_return=True)))
    assert p.decide is not None
    assert (p.decide.by, p.decide.limit) == (pytest.approx(1100.0), "b")
    assert [s.no_way_back for s in p.steps] == [False, True]
    assert p.steps[1].back_in_time is None


def test_failures_retries_thresholds_and_what_becomes_of_them() -> None:
    def outcomes(**more: Any) -> Any:
        one = work("a", takes=10.0, failure=0.5, undo=(known(5.0),), **more)
        return foretell(layout(one), runs=20_000).outcomes

    assert outcomes().back_in_window == pytest.approx(0.5, abs=0.02)
    assert outcomes(turns_back=False).held == pytest.approx(0.5, abs=0.02)
    again = outcomes(retry=Retry(times=2, wait=1.0, backoff=2.0))
    assert again.done_in_window == pytest.approx(1 - 0.5**3, abs=0.02)
    two = outcomes(nodes=2, batches=(2,), tolerated=1)
    assert two.done_in_window == pytest.approx(0.75, abs=0.02)


def test_retries_and_the_waits_between_them_take_time() -> None:
    one = work("a", takes=10.0, failure=1.0, retry=Retry(times=2, wait=1.0, backoff=2.0))
    assert foretell(layout(one)).took.p50 == pytest.approx(33.0)


def test_past_the_point_of_no_return_a_failure_is_held() -> None:
    p = foretell(layout(work("a", no_return=True), work("b", (0,), failure=1.0)))
    assert p.outcomes.held == 1.0


def test_budgets_are_measured_over_steps_and_calls() -> None:
    lay = layout(work("db/freeze", takes=20.0), work("db/thaw", (0,), takes=20.0))
    kept, broken, gone = (
        Budget(name=name, from_step=start, from_edge="start", to_step="db", to_edge="end",
               limit=limit)
        for name, start, limit in (("a", "db", 60.0), ("b", "db", 30.0), ("c", "other", 9.0))
    )
    p = foretell(lay, budgets=(kept, broken, gone))
    told = [(b.name, b.kept, b.takes.p50) for b in p.budgets]
    assert told == [("a", 1.0, 40.0), ("b", 0.0, 40.0)]


def test_a_plan_with_nothing_to_do_and_one_too_big_are_refused() -> None:
    with pytest.raises(Refused, match="nothing to simulate"):
        foretell(layout())
    with pytest.raises(Refused, match="more memory") as refused:
        foretell(layout(*(work(f"s{n}") for n in range(100))), runs=1_000_000)
    assert "--runs 400000" in refused.value.hint


def test_all_nodes_of_a_wide_step_are_served_by_few_slots() -> None:
    lay = layout(work("wide", nodes=10, batches=(10,)), slots=3)
    nodes = [Nodes(np.full((10, 2), 10.0), None)]
    assert in_slots(lay, nodes).ends[:, 0].tolist() == [40.0, 40.0]


# -- where durations come from -----------------------------------------------------------------


def sample(
    step: str, seconds: float, *, level: str = "live", op: Any = "do", host: str | None = None,
    kind: str = "shell",
) -> Sample:
    return Sample("r", "r-1", level, kind, step, host, op, seconds)


def step(name: str, *, kind: str = "shell", args: dict[str, Any] | None = None,
         hosts: tuple[str | None, ...] = (None,), **more: Any) -> PlannedStep:
    nodes = tuple(
        Node(id=name if host is None else f"{name}@{host}", step=name, host=host,
             args={"command": "x"} if args is None else args)
        for host in hosts
    )
    fields: dict[str, Any] = {"estimate": 60.0, "estimate_undo": 30.0, **more}
    return PlannedStep(id=name, kind=kind, nodes=nodes, **fields)


def laid(*steps: PlannedStep, samples: tuple[Sample, ...] = (), level: str = "live",
         **more: Any) -> Layout:
    plan = Plan(runbook="r", steps=steps, window=WINDOW, policy=more.pop("policy", Policy()))
    return lay_out(plan, registry(), History(samples, by_keys=["shell"]), level=level,
                   origin=1000.0, **more)


def test_measured_durations_of_the_host_outweigh_the_estimate() -> None:
    found = laid(
        step("a", hosts=("x", "y")), step("b"),
        samples=(sample("a", 3.0, host="x"), sample("a", 5.0, host="y"),
                 sample("a", 2.0, op="undo", host="x")),
    ).steps
    assert [(t.seconds, t.basis) for t in found[0].takes] == [((3.0,), "measured"),
                                                             ((5.0,), "measured")]
    assert [(t.seconds, t.basis) for t in found[0].undo] == [((2.0,), "measured")] * 2
    assert (found[1].takes[0].seconds, found[1].source.basis) == ((60.0,), "estimate")


def test_a_sandbox_can_only_raise_what_is_expected_of_a_live_run() -> None:
    samples = (sample("short", 0.2, level="sandbox"), sample("long", 90.0, level="sandbox"))
    live = laid(step("short"), step("long"), samples=samples).steps
    assert [w.takes[0].middle for w in live] == [60.0, 90.0]
    assert [w.source.basis for w in live] == ["rehearsed", "rehearsed"]
    played = laid(step("short"), step("long"), samples=samples, level="sandbox").steps
    assert [w.takes[0].middle for w in played] == [0.2, 90.0]
    assert [w.source.basis for w in played] == ["measured", "measured"]


def test_people_are_never_reckoned_as_fast_as_the_sandbox_answers() -> None:
    gate = step("go", kind="gate.approve", args={})
    answered = sample("go", 0.1, level="sandbox", kind="gate.approve")
    live = laid(gate, samples=(answered,))
    assert (live.steps[0].takes[0].middle, live.steps[0].source.basis) == (60.0, "people")
    assert not live.steps[0].takes_slot
    assert any("people" in line for line in live.assumptions)
    assert laid(gate, samples=(answered,), level="sandbox").steps[0].takes[0].middle == 0.1


def test_waits_whose_length_is_data() -> None:
    old = RRset(name="a.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
    lowered = old.model_copy(update={"ttl": 60})
    zone = {"zone": "example", "points_at": "192.0.2.1"}
    found = laid(
        step("lower", kind="dns.ttl", args={**zone, "ttl": 60}),
        step("wait", kind="dns.wait_ttl", args={"of": "lower"}, after=("lower",)),
        step("pause", kind="wait", args={"for": 120}, after=("wait",)),
        step("until", kind="wait", args={"until": 2e9}, after=("pause",)),
        changes={"lower": (Change(before=old, after=lowered),)},
    ).steps
    assert found[1].lag == Lag(0, 3605.0)
    assert found[2].takes[0].fixed == 120.0
    assert found[3].until == 2e9 - 1000.0
    assert not any(one.takes_slot for one in found[1:])
    unknown = laid(
        step("lower", kind="dns.ttl", args={**zone, "ttl": 60}),
        step("wait", kind="dns.wait_ttl", args={"of": "lower"}, after=("lower",)),
    ).steps[1]
    assert (unknown.lag, unknown.source.basis) == (None, "estimate")


def test_the_wait_on_the_way_back_goes_by_the_ttl_that_was_given() -> None:
    old = RRset(name="a.example.", rtype="A", ttl=3600, rdatas=("192.0.2.1",))
    low = old.model_copy(update={"ttl": 60})
    new = low.model_copy(update={"rdatas": ("192.0.2.9",)})
    zone = {"zone": "example", "points_at": "192.0.2.1"}
    found = laid(
        step("lower", kind="dns.ttl", args={**zone, "ttl": 60}),
        step("stays", kind="dns.wait_back", after=("lower",),
             args={"zone": "example", "points_at": "192.0.2.9", "ttl": 60}),
        step("flip", kind="dns.flip", after=("stays",),
             args={"zone": "example", "from": "192.0.2.1", "to": "192.0.2.9"}),
        step("restore", kind="dns.restore_ttl", args={"of": "lower"}, after=("flip",)),
        changes={"lower": (Change(before=old, after=low),),
                 "flip": (Change(before=low, after=new),)},
    ).steps
    assert found[1].back_waits == (Lag(2, 65.0), Lag(3, 3605.0))
    assert found[1].undo[0].middle == 0.0


def test_the_undo_of_what_was_measured_takes_as_long_as_the_doing() -> None:
    same = laid(step("a", estimate_undo=60.0), samples=(sample("a", 4.0),)).steps[0]
    assert (same.undo[0].seconds, same.undo[0].basis) == ((4.0,), "as the doing")
    other = laid(step("a"), samples=(sample("a", 4.0),)).steps[0]
    assert (other.undo[0].seconds, other.undo[0].basis) == ((30.0,), "estimate")


def test_skipped_steps_are_gone_and_those_after_them_come_after_those_before() -> None:
    found = laid(step("a"), step("b", after=("a",), skipped="no"), step("c", after=("b",))).steps
    assert [(one.id, one.after) for one in found] == [("a", ()), ("c", (0,))]


def test_batches_rounds_and_anchors_come_from_the_plan() -> None:
    hosts = tuple(f"h{n}" for n in range(10))
    found = laid(
        step("a", hosts=hosts, ramp=(1,), batch=4, soak=30.0, estimate=400.0, at=1100.0),
        policy=Policy(max_parallel=2),
    ).steps[0]
    assert (found.batches, found.soak, found.not_before) == ((1, 4, 4, 1), 30.0, 100.0)
    assert found.takes[0].middle == pytest.approx((400.0 - 90.0) / 6), "six rounds and three soaks"
    assert found.undo_batches == (4, 4, 2), "the way back has no ramp"


def test_with_every_estimate_right_it_is_the_timeline_of_the_plan() -> None:
    steps = (step("a", estimate=10.0), step("b", estimate=20.0, at=1300.0),
             step("c", after=("a", "b"), estimate=30.0))
    plan = Plan(runbook="r", steps=steps, window=WINDOW)
    exact = laid(*steps)
    exact = replace(exact, handover=0.0, steps=tuple(
        replace(w, takes=tuple(known(t.middle) for t in w.takes)) for w in exact.steps
    ))
    found = schedule(Draws(exact, 1, 0, 2))
    slots = build_timeline(plan).slots
    assert [s + 1000.0 for s in found.starts[:, 0]] == [slots[one.id].start for one in steps]
    assert [s + 1000.0 for s in found.ends[:, 0]] == [slots[one.id].end for one in steps]


def test_the_engine_takes_a_moment_from_one_step_to_the_next() -> None:
    steps = (work(f"s{n}", (n - 1,) if n else (), undo=(Takes("measured"),)) for n in range(10))
    lay = replace(layout(*steps), handover=0.5)
    p = foretell(lay)
    assert (p.took.p50, p.back_out.p50) == (
        pytest.approx(105.0, abs=0.3), pytest.approx(5.0, abs=0.3))
    assert p.took.p95 - p.took.p05 > 5, "how long depends on how busy it is, and nobody knows"


def test_what_always_took_the_same_keeps_to_its_own_time_whatever_the_night() -> None:
    assert measured((60.0, 60.06), pace=0.35).shared == pytest.approx(0.001, abs=1e-4)
    assert measured((1.0, 2.0), pace=0.35).shared == 0.35
    calm = pace_of([{"a": 1.0, "b": 1.0, "c": 1.0}] * 5)
    wild = pace_of([{"a": 1.0, "b": 3.0, "c": 9.0}] * 5)
    assert calm < PACE < wild


def test_what_surprised_somewhere_may_surprise_anywhere_but_in_proportion() -> None:
    differences = differences_in([[10.0, 310.0], [5.0]])
    assert differences == (Difference(10.0, 300.0), Difference(310.0, -300.0))
    assert measured((1.0, 1.0), differences=differences).surprises == pytest.approx(
        (30.0, -300.0 / 310.0))
    assert measured((600.0, 600.0), differences=differences).surprises == (300.0, -300.0)
    often = measured((1.0,) * 30, differences=differences)
    for takes, share in ((measured((1.0, 1.0), differences=differences), 3 / 4),
                         (often, 3 / 32)):
        drawn = Draws(layout(work("a", takes=takes)), 1, 0, 20_000).nodes(0).seconds[0]
        assert (drawn > 5).mean() == pytest.approx(share / 2, abs=0.02)
        assert drawn.min() > 0.4, "never less than half of the least, but for what varies anyhow"


def test_a_thing_learns_from_those_that_are_about_as_long() -> None:
    short = [[0.01, 0.01, 0.01 + n / 1000] for n in range(100)]
    long = [[60.0, 60.0, 90.0 + n] for n in range(100)]
    differences = differences_in([*short, *long])
    assert max(measured((0.1,), differences=differences).surprises) < 1
    assert max(measured((70.0,), differences=differences).surprises) > 100
    few = differences_in([[0.01, 0.02], *long])
    assert max(measured((0.1,), differences=few).surprises) < 1, "in proportion"


def test_the_least_that_there_is_may_not_have_been_seen() -> None:
    """Of things that vary. What always took the same takes no less."""
    calm = differences_in([[1.0, 1.0, 1.0]])
    for seconds, less in (((1.0, 1.2, 1.6), 3 / 5), ((1.0, 1.0, 1.0), 0.0)):
        takes = replace(measured(seconds, differences=calm), spread=0.0)
        drawn = Draws(layout(work("a", takes=takes)), 1, 0, 20_000).nodes(0).seconds[0]
        assert (drawn < 0.999).mean() == pytest.approx(less, abs=0.02)
        assert drawn.min() >= 0.8, "by no more than what lies between the least two"


def test_things_that_act_look_and_go_back_learn_from_their_own() -> None:
    checks = [sample(f"c{n}", 1.0 + m / 100, kind="http.check") for n in range(9) for m in (1, 2)]
    acts = [sample("a", 1.0 + m) for m in (0, 5)]
    backs = [sample("a", 1.0 + m, op="undo") for m in (0, 90)]
    told = tuple(replace(one, run_id=f"r-{n}") for n, one in enumerate([*checks, *acts, *backs]))
    check = step("c0", kind="http.check", args={"url": "http://x.test/"})
    found = laid(check, step("a"), samples=told).steps
    assert [max(one.surprises) for one in (
        found[0].takes[0], found[1].takes[0], found[1].undo[0])] == pytest.approx([0.01, 5.0, 90.0])


def test_of_several_hosts_the_slowest_undo_counts_in_each_round() -> None:
    one = Takes("measured", (1.0, 9.0))
    lay = layout(work("a", undo=(one,) * 6, undo_batches=(3, 3)))
    drawn = Draws(lay, 1, 0, 20_000).undo(0)
    assert sorted({round(float(x), 3) for x in drawn}) == [2.0, 10.0, 18.0]
    assert (drawn == 2.0).mean() == pytest.approx((1 / 8) ** 2, abs=0.005)
    narrow = replace(lay, max_parallel=1)
    assert Draws(narrow, 1, 0, 2000).undo(0).min() >= 6.0


def test_a_condition_holds_as_often_as_it_did_and_nothing_is_undone_that_was_not_done() -> None:
    lay = layout(
        work("a", takes=10.0), work("b", (0,), takes=100.0, chance=0.2, undo=(known(50.0),)))
    p = foretell(lay, runs=5000)
    assert (p.took.p50, p.took.p95) == (10.0, 110.0)
    assert (p.back_out.p50, p.back_out.p95) == (0.0, 50.0)
    draws = Draws(lay, 1, 0, 5000)
    done, undone = draws.nodes(1).seconds[0] > 0, draws.undo(1) > 0
    assert (done == undone).all()
    assert done.mean() == pytest.approx(0.2, abs=0.02)


def test_conditions_come_from_the_history() -> None:
    way = step("way", when="outputs.a.x")
    told = [Choice("r", f"r-{n}", "live", "way", n == 0) for n in range(3)]
    other = Choice("r", "r-9", "sandbox", "way", True)
    for choices, chance in ((told, 2 / 5), ([*told, other], 2 / 5), ([other], 1.0), ([], 1.0)):
        plan = Plan(runbook="r", steps=(step("a"), way), window=WINDOW)
        found = lay_out(plan, registry(), History(choices=choices), level="live", origin=1000.0)
        assert [one.chance for one in found.steps] == [1.0, pytest.approx(chance)]
    assert "the condition of `way` holds: it was never met" in found.assumptions
