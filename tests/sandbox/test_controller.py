"""Steps on the controller, rehearsed: they see the world, and not the machine it is played on."""

from __future__ import annotations

from pathlib import Path

from runbook.cli.embedded import embedded
from runbook.cli.session import Show, start
from runbook.cli.wiring import load_plan
from runbook.errors import ExitCode
from runbook.journal import open_store

BOOK = """
runbook: controller
inventory: {hosts: {web: {address: 192.0.2.1}}}
steps:
  - id: own-home
    kind: shell
    with: {command: pwd; echo kept > note.txt}
  - id: to-web
    kind: shell
    with: {command: ssh web hostname-of-web || ssh web 'echo from-the-world'}
"""


def test_a_controller_step_has_a_home_in_the_world_and_reaches_only_its_hosts(
    tmp_path: Path, _own_home: Path
) -> None:
    (tmp_path / "book.yml").write_text(BOOK)
    (tmp_path / "sandbox.yml").write_text("hosts: {web: {}}\n")
    plan = load_plan(tmp_path / "book.yml", [])
    store = open_store(tmp_path / "state")
    with embedded(plan, tmp_path / "sandbox.yml") as played:
        run_id, driven = start(
            plan, store, level="sandbox", endpoints_file=str(played.endpoints_file),
            show=Show.NOTHING,
        )
        home = played.world.directory / "hosts" / "controller"
        assert (home / "note.txt").read_text() == "kept\n"
    assert driven.exit_code is ExitCode.OK, driven.why
    outputs = {e.node: e.data["results"][0]["data"]["stdout"]
               for e in store.events(run_id) if e.kind == "done"}
    assert outputs["own-home"] == f"{home}\n"
    assert outputs["to-web"] == "from-the-world\n"
    assert not (_own_home / "note.txt").exists()
