"""Files move from one site to the other, and back, with all that goes wrong on the way."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.processes import kill, wait_for
from tests.lab.runs import PLAYBOOKS, Runs
from tests.lab.trees import FOLDER, make_source, make_target, tree

pytestmark = marks

MOVE = PLAYBOOKS / "files/move.yml"
OLD, NEW = "east-web", "west-web"
BACK = "policy: {on_failure: rollback}\n"
# One connection for all that a step does, and a link that is cut shows in seconds.
ONE = "ssh -o BatchMode=yes -o ControlMaster=auto -o ControlPath=/run/mux-%C -o ControlPersist=20"
RSH = "ssh -o BatchMode=yes -o ConnectTimeout=3 -o ServerAliveInterval=1 -o ServerAliveCountMax=2"


def move(**more: str) -> str:
    keys = {"from": OLD, "to": NEW, "path": FOLDER, "freeze": "touch /srv/shop/read-only",
            "thaw": "rm /srv/shop/read-only", "rsh": ONE, **more}
    inside = ", ".join(f'{key}: "{value}"' for key, value in keys.items())
    return f"  - {{id: files, playbook: files/move, with: {{{inside}}}}}\n"


def other(runs: Runs, text: str) -> str:
    """The call of a playbook of this text."""
    book = runs.folder / "playbooks" / "other.yml"
    book.parent.mkdir(exist_ok=True)
    book.write_text(text.replace("playbook: files/move\n", "playbook: other\n"))
    return move().replace("files/move", "other")


def sync(**more: str) -> str:
    """One final pass, tried again until the link is mended."""
    keys = {"source": f"{FOLDER}/", "to": NEW, "destination": FOLDER, "delete": "true",
            "rsh": RSH, **more}
    inside = ", ".join(f"{key}: {value}" for key, value in keys.items())
    return (f"  - {{id: copy, kind: files.sync, hosts: {OLD}, with: {{{inside}}}, "
            "retry: {times: 30, wait: 1s}}\n")


@pytest.fixture
def runs(lab: Lab, tmp_path: Path) -> Iterator[Runs]:
    yield Runs(lab, tmp_path, "")
    for host in (OLD, NEW):
        lab.network.slow(host, None)
        lab[host].run("rm -rf /srv/shop /root/.runbook")


def outputs(state: RunState, step: str) -> dict[str, int]:
    return dict(state.step_outputs(step))


def big(lab: Lab, megabytes: int) -> None:
    """One large file at the old side, and nothing at the new."""
    lab[OLD].run(f"mkdir -p {FOLDER} && head -c {megabytes}000000 /dev/urandom >{FOLDER}/big")
    lab[NEW].run(f"rm -rf {FOLDER} && mkdir -p /srv/shop")


def arriving(lab: Lab, least: int = 1_500_000) -> bool:
    """Whether a part of the large file is at the new side."""
    places = (lab[NEW].disk / FOLDER.lstrip("/")).glob(".runbook/*/temp/big.*")
    return any(path.stat().st_size >= least for path in places)


def given_up(runs: Runs) -> bool:
    return runs.state().nodes[f"copy@{OLD}"].state in {NodeState.FAILED, NodeState.ERRORED}


def test_a_tree_moves_and_comes_back_with_what_the_new_side_wrote(
    lab: Lab, runs: Runs
) -> None:
    make_source(lab, OLD)
    make_target(lab, NEW)
    before = tree(lab, NEW)
    source = tree(lab, OLD)
    code, state, text = runs.run(move())
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert tree(lab, NEW) == source == tree(lab, OLD)
    assert lab[NEW].run(f"stat -c %b {FOLDER}/sparse").stdout.strip() in {"8", "16"}, "holes"
    assert outputs(state, "files/live")["files"] >= 15
    assert outputs(state, "files/final")["last_bytes"] == 0, "the passes before did the bulk"
    assert outputs(state, "files/same")["differences"] == 0
    assert not list((lab[NEW].disk / FOLDER.lstrip("/")).glob(".runbook")), "nothing is left there"

    lab[NEW].run(f"cd {FOLDER}; echo new >new; echo more >>plain; rm -r deep; mkdir deep; "
                 f"echo x >deep/y; chown 5:6 new; rm 'two\nlines'")
    written = tree(lab, NEW)
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert tree(lab, OLD) == written, "what the new side wrote is not lost"
    assert tree(lab, NEW) == before
    assert lab[OLD].run("ls /srv/shop").stdout.split() == ["uploads"], "thawed"
    assert not lab[NEW].run("ls /root/.runbook/files 2>/dev/null", check=False).stdout


@pytest.mark.parametrize("step", ["live", "freeze", "final", "same"])
def test_each_step_fails_and_all_is_as_before(lab: Lab, runs: Runs, step: str) -> None:
    make_source(lab, OLD)
    make_target(lab, NEW)
    old, new = tree(lab, OLD), tree(lab, NEW)
    # A step that is made to fail would fail at every try.
    steps = other(runs, re.sub(r"\n    retry: .*", "", MOVE.read_text()))
    code, state, text = runs.run(steps, head=BACK, fail=f"files/{step}")
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert (tree(lab, OLD), tree(lab, NEW)) == (old, new)


def test_files_that_change_while_they_are_copied(lab: Lab, runs: Runs) -> None:
    """A live source: files grow, come and go all the time. The passes settle nothing, and the
    pass under the freeze settles all."""
    make_source(lab, OLD)
    make_target(lab, NEW)
    before = tree(lab, NEW)
    lab[OLD].run(
        "cd /srv/shop/uploads; (n=0; until [ -e ../read-only ]; do n=$((n + 1)); echo $n >>log; "
        "echo $n >item$n; rm -f item$((n - 20)); mv item$((n - 5)) moved$((n % 30)); sleep 0.01; "
        "done; touch ../stopped) >/dev/null 2>&1 </dev/null &"
    )
    code, state, text = runs.run(move(
        freeze="touch /srv/shop/read-only; until [ -e /srv/shop/stopped ]; do sleep 0.05; done",
        thaw="rm /srv/shop/read-only /srv/shop/stopped",
    ))
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert outputs(state, "files/live")["passes"] == 5
    assert outputs(state, "files/final")["last_bytes"] < outputs(state, "files/live")["bytes"]
    assert tree(lab, NEW) == tree(lab, OLD)
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert tree(lab, NEW) == before


def test_both_sides_changed_so_nothing_is_carried_over_the_other(lab: Lab, runs: Runs) -> None:
    make_source(lab, OLD)
    make_target(lab, NEW)
    assert runs.run(move())[0] == ExitCode.OK
    lab[NEW].run(f"echo new side >>{FOLDER}/plain")
    lab[OLD].run(f"echo old side >>{FOLDER}/plain; touch {FOLDER}/hers")
    old, new = tree(lab, OLD), tree(lab, NEW)
    code, state, text = runs.rollback()
    assert code == ExitCode.NOT_RESTORED, text
    assert state.nodes[f"files/final@{OLD}"].state is NodeState.ROLLBACK_FAILED
    assert (tree(lab, OLD), tree(lab, NEW)) == (old, new)
    why = state.nodes[f"files/final@{OLD}"].detail
    assert "altered: plain" in why and "new: hers" in why and "by hand" in why


def test_writes_of_the_new_side_are_given_up_only_by_name(lab: Lab, runs: Runs) -> None:
    make_source(lab, OLD)
    make_target(lab, NEW)
    old, before = tree(lab, OLD), tree(lab, NEW)
    # Something is left for the pass under the freeze, and so for its undo.
    code, _, text = runs.run(move(
        back="restore", freeze=f"echo last >{FOLDER}/last", thaw=f"rm {FOLDER}/last"
    ))
    assert code == ExitCode.OK, text
    lab[NEW].run(f"cd {FOLDER}; rm ü; echo precious >order; mkdir -p a/b; echo x >a/b/c")
    new = tree(lab, NEW)
    code, _, text = runs.rollback()
    assert code == ExitCode.HELD, text
    assert "new: order" in text and "gone: ü" in text and "--accept-loss files/final" in text
    assert "files/live" not in text, "what it left was brought further by the last pass"
    assert tree(lab, NEW) == new, "nothing was undone"
    code, _, text = runs.command(
        "rollback", "--plain", "--yes", "--why", "accepted", "--accept-loss", "files/final"
    )
    assert code == ExitCode.ROLLED_BACK, text
    assert (tree(lab, OLD), tree(lab, NEW)) == (old, before)
    kept = lab[NEW].run("cat /root/.runbook/files/*.given-up/order").stdout
    assert kept == "precious\n", "and even so it is not deleted"


def test_a_link_is_cut_while_a_large_file_is_copied(lab: Lab, runs: Runs) -> None:
    big(lab, 6)
    lab.slow(NEW, 10_000)
    controller = runs.start(sync())
    wait_for("a part has arrived", lambda: arriving(lab), 30)
    lab.cut_link(NEW)
    wait_for("the pass is given up", lambda: given_up(runs), 60)
    lab.mend_link(NEW)
    assert controller.wait(60) == ExitCode.OK
    done = outputs(runs.state(), "copy")
    assert done["sent"] < 5_500_000, f"what had arrived is used: {done}"
    assert tree(lab, NEW) == tree(lab, OLD)
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    assert tree(lab, NEW) == {}


def test_the_new_side_loses_its_power_while_a_large_file_is_copied(lab: Lab, runs: Runs) -> None:
    big(lab, 6)
    lab.slow(NEW, 10_000)
    controller = runs.start(sync())
    wait_for("a part has arrived", lambda: arriving(lab), 30)
    lab.power_cut(NEW)
    wait_for("the pass is given up", lambda: given_up(runs), 60)
    lab.power_on(NEW)
    assert controller.wait(60) == ExitCode.OK
    done = outputs(runs.state(), "copy")
    assert done["sent"] < 5_500_000, f"what had arrived is used: {done}"
    assert tree(lab, NEW) == tree(lab, OLD)
    assert not list((lab[NEW].disk / FOLDER.lstrip("/")).glob(".runbook"))


def test_the_controller_is_killed_while_a_large_file_is_copied(lab: Lab, runs: Runs) -> None:
    big(lab, 6)
    lab.slow(NEW, 10_000)
    controller = runs.start(sync())
    wait_for("a part has arrived", lambda: arriving(lab), 30)
    kill([controller.pid])
    controller.wait()
    code, state, text = runs.command("resume", "--plain")
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert outputs(state, "copy")["passes"] == 1, "it was attached to, and not begun again"
    told = runs.command("log", f"copy@{OLD}", "--output")[2]
    assert " of 6.0 MB (" in told and " left" in told, "how far it was and what was left"
    assert len(told) < 10_000
    assert tree(lab, NEW) == tree(lab, OLD)


def test_going_back_does_not_wait_for_a_large_file(lab: Lab, runs: Runs) -> None:
    """A pass that is under way is ended, and the new side is as it was."""
    big(lab, 30)
    lab[NEW].run(f"mkdir {FOLDER}; echo before >{FOLDER}/big; echo other >{FOLDER}/other")
    before = tree(lab, NEW)
    lab.slow(NEW, 4_000)
    controller = runs.start(sync())
    wait_for("a part has arrived", lambda: arriving(lab), 30)
    lab.run("control", sys.executable, "-m", "runbook", "rollback", runs.state().run_id, "--yes",
            "--why", "changed our minds", env=runs.env, check=False)
    lab.network.slow(NEW, None)
    assert controller.wait(60) == ExitCode.ROLLED_BACK
    assert tree(lab, NEW) == before
    assert runs.state().nodes[f"copy@{OLD}"].attempt == 1


def test_the_new_side_has_no_room(lab: Lab, runs: Runs) -> None:
    big(lab, 8)
    lab[NEW].run(f"mkdir {FOLDER} && echo before >{FOLDER}/big")
    before = tree(lab, NEW)
    lab.fill_disk(NEW, leave=4_000_000)
    try:
        steps = sync().replace("times: 30", "times: 0")
        code, state, text = runs.run(steps, head=BACK)
    finally:
        lab.free_disk(NEW)
    assert "No space left on device" in text, text
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert tree(lab, NEW) == before


def test_one_changed_byte_stops_at_the_gate_and_the_move_goes_back(lab: Lab, runs: Runs) -> None:
    """Between the last pass and the gate, at the old side, with size and time as before."""
    make_source(lab, OLD)
    make_target(lab, NEW)
    old, new = tree(lab, OLD), tree(lab, NEW)
    (lab[OLD].disk / "root/flip.py").write_text(
        f"import os\np = {FOLDER + '/two' + chr(10) + 'lines'!r}\ns = os.stat(p)\n"
        "b = bytearray(open(p, 'rb').read())\nb[100] ^= 1\nopen(p, 'r+b').write(b)\n"
        "os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))\n"
    )
    before, gate = MOVE.read_text().split("  - id: same\n")
    flip = (
        "  - id: flip\n    kind: shell\n    hosts: \"{{ params.from }}\"\n"
        "    with: {command: python3 /root/flip.py}\n    undo: python3 /root/flip.py\n"
    )
    code, state, said = runs.run(
        other(runs, before + flip + "  - id: same\n" + gate), head=BACK
    )
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), said
    assert "1 paths differ: two\\#012lines: content" in said
    assert state.nodes[f"files/same@{OLD}"].attempt == 1, "another try could not help"
    assert (tree(lab, OLD), tree(lab, NEW)) == (old, new)
