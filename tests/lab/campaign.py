"""One move of the shop under random faults, followed to its end, and judged.

Whatever happens, a run ends done, or rolled back, or it stops and asks about a step that it
cannot judge: by name and host, with the commands to answer with. Then the operator looks at the
host, answers with the truth, and the run goes on to its end.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from runbook.errors import ExitCode
from runbook.model.runstate import NodeStatus
from runbook.model.state import NodeState, RunPhase
from tests.lab import shop
from tests.lab.faults import Fault, Script, Trouble
from tests.lab.fingerprint import difference, fingerprint
from tests.lab.lab import ADDRESSES, RESOLVERS, Lab
from tests.lab.names import PRIMARY, SECONDARY
from tests.lab.processes import listening, wait_for
from tests.lab.shop import EAST, WEST, Move, hurried, records_of

_LIVES = 14
"""Controllers a run may use up."""
_A_LIFE = 240.0
"""Seconds after which a controller that has not ended counts as stuck."""
TTL = 2

# Commands that must not be repeated unknowingly leave a line as they begin and one as they end.
_MARK = "echo {} >>$HOME/ledger; sync $HOME/ledger"
_COUNTED = (
    ("        python3 shop/orders.py export data/final.db\n",
     f"        {_MARK.format('did')}\n", ""),
    ('        echo "orders=$(python3 shop/orders.py count data/final.db)"\n',
     "", f"        {_MARK.format('did-end')}\n"),
    ("      {{ ssh }} west-web python3 shop/orders.py export data/back.db\n",
     f"      {_MARK.format('undid')}\n", ""),
    ("      rm -f data/final.db data/back.db\n", "", f"      {_MARK.format('undid-end')}\n"),
)
_MADE = (
    ("with: {command: mkdir data, creates: data}",
     f"with: {{command: '{_MARK.format('did')}; mkdir data && {_MARK.format('did-end')}', "
     "creates: data}"),
    ("    undo: rm -rf data\n",
     f"    undo: '{_MARK.format('undid')}; rm -rf data; {_MARK.format('undid-end')}'\n"),
)
COUNTED_NODES = ("final-sync@east-web", "west-data@west-web")
_WORDS = {"do": ("did", "did-end"), "undo": ("undid", "undid-end")}


def counted(text: str) -> str:
    for line, before, after in _COUNTED:
        assert text.count(line) == 1, line
        text = text.replace(line, f"{before}{line}{after}")
    for old, new in _MADE:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return hurried(text)


@dataclass
class Played:
    """What came of a move."""

    script: Script
    happened: list[Fault] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    """Nodes that the operator was asked about."""
    phase: str = ""
    seconds: float = 0.0
    orders: int = 0
    killed_at_the_end: bool = False
    """The journal says how it ended; the controller died before it could tidy up."""
    recovery: float = 0.0
    """Seconds from the end of the run to the next orders."""
    problem: str = ""
    """What is wrong with the product, with the log; empty: nothing."""

    @property
    def outcome(self) -> str:
        return f"{self.phase}, after {len(self.questions)} question(s)" if self.questions \
            else self.phase


def play(script: Script, folder: Path) -> Played:
    """Never raises for what the product did: that is ``problem``."""
    played, began = Played(script), time.monotonic()
    with Lab.open(shop.zone(TTL), files=shop.files()) as lab:
        wait_for("the shop is open", lambda: 80 in listening(lab["east-web"].init))
        before = fingerprint(lab)
        move = Move(lab, folder / f"move-{script.number}", counted, fail=script.fail)
        trouble = Trouble(lab, move, script, played.happened)
        try:
            move.open_for_orders()
            _to_the_end(move, trouble, played)
            played.phase = move.state().phase.value
            at_the_end, ended = len(move.acknowledged()), time.monotonic()
            wait_for("orders are taken again",
                     lambda: len(move.acknowledged()) > at_the_end + 2, 60)
            played.recovery = time.monotonic() - ended
            move.close_shopper()
            played.orders = len(move.acknowledged())
            _judge(lab, move, before, untidy=played.killed_at_the_end)
        except AssertionError as fault:
            played.problem = f"{script}\n{fault}\n{move.log}\n{_look_around(lab)}"
        finally:
            move.close()
    played.seconds = time.monotonic() - began
    return played


def _to_the_end(move: Move, trouble: Trouble, played: Played) -> None:
    move.start()
    for _ in range(_LIVES):
        code = _live(move, trouble.look)
        if code is not None:
            played.codes.append(code)
        if code in {ExitCode.OK, ExitCode.ROLLED_BACK}:
            return
        if code is None and move.state().phase in {RunPhase.DONE, RunPhase.ROLLED_BACK}:
            played.killed_at_the_end = True
            return
        assert code in {None, ExitCode.IN_DOUBT, ExitCode.HELD, ExitCode.NOT_RESTORED,
                        ExitCode.UNREACHABLE}, f"a controller ended with {code}"
        asked = _in_doubt(move)
        if code == ExitCode.IN_DOUBT:
            assert asked, "held in doubt, and about nothing"
        if code is not None:
            for status in asked:
                played.questions.append(status.node)
                _answer(move, status)
        if code == ExitCode.NOT_RESTORED:
            move.rollback()
        else:
            move.resume()
    raise AssertionError(f"{_LIVES} controllers and no end")


def _live(move: Move, during: Callable[[], None]) -> int | None:
    """One life of a controller: its exit code, or None when it was killed."""
    end = time.monotonic() + _A_LIFE
    while move.controller is not None:
        code = move.controller.poll()
        if code is not None:
            move.controller = None
            return code
        assert time.monotonic() < end, "the controller does not end"
        move.answer()
        during()
        Event().wait(0.05)
    return None


# -- the operator ----------------------------------------------------------------------------------


def _in_doubt(move: Move) -> list[NodeStatus]:
    nodes = move.state().nodes.values()
    return [n for n in nodes if n.state is NodeState.IN_DOUBT or (
        n.state is NodeState.ROLLBACK_FAILED and (n.undo_unsettled or n.unsettled))]


def _answer(move: Move, status: NodeStatus) -> None:
    """Check the question, look at the host, tidy up what was half done, and say the truth."""
    node = status.node
    shown = move.command("status", move.run_id)
    question = f"runbook resolve {move.run_id} {node} --done"
    assert question in " ".join(shown.split()), f"no {question!r} in:\n{shown}"
    assert status.detail, f"{node} does not say what is unknown"
    step, _, host = node.partition("@")
    if not host:
        # A change of records: the name servers can be asked again, and are.
        return
    done = False
    if node in COUNTED_NODES:
        begin, end = _WORDS["undo" if status.undo_unsettled else "do"]
        lines = ledger(move, host)
        done = lines[begin] == lines[end] > 0
        if not done and not status.undo_unsettled:
            # Half of it may be there: the operator takes it away, and can then say "not done".
            rest = "data/final.db data/final.new data/back.db" if step == "final-sync" else "data/*"
            move.lab[host].run(f"rm -f {rest}; [ {step} = final-sync ] || rmdir data", check=False)
    move.command("resolve", move.run_id, node, "--done" if done else "--not-done",
                 "--why", "looked at the host")


def ledger(move: Move, host: str) -> Counter[str]:
    return Counter(move.lab[host].run("cat ledger 2>/dev/null", check=False).stdout.split())


# -- the judge -------------------------------------------------------------------------------------


def _judge(lab: Lab, move: Move, before: dict[str, str], *, untidy: bool) -> None:
    state = move.state()
    acknowledged = move.acknowledged()
    moved = state.phase is RunPhase.DONE
    assert moved or state.phase is RunPhase.ROLLED_BACK, state.phase
    lost = acknowledged - move.orders_at("west-web" if moved else "east-web")
    assert not lost, f"{len(lost)} acknowledged orders are lost"
    _judge_ledger(move)
    if moved:
        expected = sorted(
            line.removeprefix(f"zone {SECONDARY}: ").replace(EAST, WEST)
            for line in before if line.startswith(f"zone {SECONDARY}: ")
        )
        assert records_of(lab) == expected
        return
    wait_for("the secondary has followed",
             lambda: records_of(lab, SECONDARY) == records_of(lab), 30)
    untidy = untidy or any("not tidied up" in text for _, _, text in state.notes)
    left = [
        line for line in difference(before, fingerprint(lab))
        if ":/root/ledger:" not in line and not (untidy and ":/root/.runbook" in line)
    ]
    assert not left, "the world is not as before:\n" + "\n".join(left)


def _judge_ledger(move: Move) -> None:
    """Nothing ran that the journal does not know of; nothing is done that did not run."""
    _, events = move.store.load(move.run_id)
    for node in COUNTED_NODES:
        lines = ledger(move, node.partition("@")[2])
        for op, (begin, end) in _WORDS.items():
            mine = [e for e in events if e.node == node and e.op == op]
            intents = sum(e.kind == "intent" for e in mine)
            done = sum(e.kind == "done" and "how" not in e.data for e in mine)
            assert lines[begin] <= intents, f"{node} {op}: {lines} for {intents} intents"
            assert lines[end] >= done, f"{node} {op}: {lines}, and {done} are journaled as done"


def _look_around(lab: Lab) -> str:
    """How the lab stands, for a person who wants to know why."""
    lines = [f"{name}: up {machine.up}, ports {sorted(listening(machine.init))}"
             for name, machine in lab.machines.items()]
    for server in (PRIMARY, SECONDARY, *RESOLVERS.values()):
        lines.append(f"{server}: {lab.dig(f'@{server}', 'shop.example', 'A', desk='client')}")
    for host in ("east-web", "west-web"):
        said = lab.run("client", "curl", "-s", "-m", "3", f"http://{ADDRESSES[host]}/health",
                       check=False).stdout
        lines.append(f"{host}: {said.strip()}")
    return "\n".join(lines)


# -- the sum ---------------------------------------------------------------------------------------


def table(seed: int, played: list[Played]) -> str:
    """All of it in numbers."""
    happened = [fault for one in played for fault in one.happened]
    kinds, ops = Counter(f.kind for f in happened), Counter(f.op for f in happened)
    outcomes = Counter(one.outcome for one in played)
    codes = Counter(ExitCode(code).name for one in played for code in one.codes)
    questions = Counter(node for one in played for node in one.questions)
    rows = [
        f"seed {seed}: {len(happened)} faults in {len(played)} moves, "
        f"{sum(one.orders for one in played)} orders acknowledged, "
        f"{sum(one.seconds for one in played):.0f} s of moves",
        "faults:    " + _row(kinds), "during:    " + _row(ops), "outcomes:  " + _row(outcomes),
        "controllers ended: " + _row(codes), "asked about: " + (_row(questions) or "nothing"),
        f"problems:  {sum(bool(one.problem) for one in played)}",
    ]
    return "\n".join(rows)


def _row(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def tell(played: Played) -> None:
    """One line as it comes, so that a long campaign can be watched."""
    names = [ExitCode(code).name for code in played.codes]
    print(f"{played.script} → {played.outcome or 'no end'} {names} {played.seconds:.0f}s, "
          f"orders after {played.recovery:.1f}s"
          + (f"\nPROBLEM {played.problem}" if played.problem else ""), flush=True, file=sys.stdout)
