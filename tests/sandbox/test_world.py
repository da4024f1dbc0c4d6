from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dns.message
import dns.query
import dns.tsigkeyring
import dns.update
import pytest

from runbook.errors import Errored, InvalidInput, Refused
from runbook.sandbox import programs
from runbook.sandbox.config import ProgramConfig
from runbook.sandbox.handle import LEAD, WorldHandle, first_moment, start_world
from runbook.sandbox.hosts import HostSpace
from runbook.sandbox.processes import marked
from tests.sandbox.worlds import SHOP, WINDOW, shop_plan


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_comes_up_fast_and_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "w"
    began = time.monotonic()
    world = start_world(shop_plan(), SHOP / "sandbox.yml", directory)
    try:
        assert time.monotonic() - began < 15, "about a second on a machine with nothing else to do"
        assert world.run("east-web", "setsid sleep 300 >/dev/null 2>&1 & echo $!").exit_code == 0
        identity = world.run("east-web", "echo $RUNBOOK_SANDBOX").stdout.strip()
        assert len(marked(identity)) >= 2, "the shop and the orphan"
        ports = [e.port for e in world.endpoints.ssh.values()]
        ports += [int(p.rpartition(":")[2]) for p in world.endpoints.tcp.values()]
        assert listening(ports[0])
    finally:
        world.stop()
    assert not directory.exists()
    assert marked(identity) == []
    assert not any(listening(port) for port in ports)


def test_its_clock_begins_before_the_first_moment_of_the_plan(world: WorldHandle) -> None:
    assert first_moment(shop_plan()) == WINDOW.start
    assert WINDOW.start - LEAD <= world.clock.now() < WINDOW.start


def test_the_shop_answers_through_the_table(world: WorldHandle) -> None:
    host, port = world.endpoints.connect("198.51.100.10", 80)
    with socket.create_connection((host, port), timeout=5) as link:
        link.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        answer = link.makefile("rb").read()
    assert b'"site": "east"' in answer
    with pytest.raises(Errored, match="nothing listens"):
        world.endpoints.connect("198.51.100.10", 443)


def test_maintenance_shows_a_fallback_with_style_and_script(world: WorldHandle) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code} ' http://shop.example"
    said = world.run(
        "west-probe",
        f"{ask}/; {ask}/style.css; {ask}/app.js; {ask}/orders -d '{{}}'",
    )
    assert said.stdout.split() == ["200", "200", "200", "201"], said.stderr
    world.run("east-web", "touch shop/maintenance.on")
    try:
        said = world.run(
            "west-probe",
            f"{ask}/; {ask}/style.css; {ask}/app.js; {ask}/orders -d '{{}}';"
            "curl -s http://shop.example/ | grep -c 'We are moving';"
            "curl -si http://shop.example/orders -d x | grep -i retry-after",
        )
        assert said.stdout.split() == ["200", "200", "200", "503", "1", "Retry-After:", "120"]
    finally:
        world.run("east-web", "rm shop/maintenance.on")


def test_programs_reach_nothing_outside(world: WorldHandle) -> None:
    said = world.run("east-web", "curl -s http://192.0.2.80/")
    assert "nothing listens at 192.0.2.80:80 in this sandbox" in said.stdout


def test_dns_is_served_and_updated(world: WorldHandle) -> None:
    _, _, port = world.endpoints.dns["ns1.shop.example"].rpartition(":")
    assert world.endpoints.dns["192.0.2.53"].endswith(f":{port}"), "by its address too"
    keys = dns.tsigkeyring.from_text(
        {"shop-move": ("hmac-sha256", "c2FuZGJveC1vbmx5LW5vdC1hLXNlY3JldA==")}
    )
    before = world.fingerprint()
    for address in ("203.0.113.10", "198.51.100.10"):
        update = dns.update.UpdateMessage("shop.example.", keyring=keys)
        update.replace("api", 300, "A", address)
        assert dns.query.tcp(update, "127.0.0.1", port=int(port), timeout=5).rcode() == 0
        query = dns.message.make_query("api.shop.example", "A")
        answer = dns.query.udp(query, "127.0.0.1", port=int(port), timeout=5)
        assert answer.answer[0][0].to_text() == address
        change = world.diff(before, world.fingerprint())
        assert bool(change) == (address == "203.0.113.10"), "the serial alone is no difference"


def test_each_site_has_a_resolver_of_its_own(world: WorldHandle) -> None:
    places = {
        world.endpoints.dns["198.51.100.53"], world.endpoints.dns["203.0.113.53"],
        world.endpoints.resolver,
    }
    assert len(places) == 3
    for place in places:
        port = int(place.rpartition(":")[2])
        query = dns.message.make_query("www.shop.example", "A")
        answer = dns.query.udp(query, "127.0.0.1", port=port, timeout=5)
        assert answer.answer[-1][0].to_text() == "198.51.100.10"


def test_a_host_known_by_name_alone_gets_an_address(world: WorldHandle) -> None:
    assert world.endpoints.names["probe.west.example"].startswith("10.77.")
    assert world.endpoints.names["west-probe"] == world.endpoints.names["probe.west.example"]
    assert world.endpoints.ssh["west-probe"].user == "prober"


def test_services_speak_systemds_words(world: WorldHandle) -> None:
    def ask(words: str, host: str = "east-web") -> tuple[int, str]:
        said = world.run(host, f"sudo -n -u root -- systemctl {words}")
        return said.exit_code, (said.stdout + said.stderr).strip()

    port = world.run("east-web", "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value shop)"
                     "/environ | grep ^PORT=").stdout
    assert ask("is-active shop") == (0, "active")
    assert ask("is-enabled shop.service") == (0, "enabled")
    assert ask("is-enabled shop", "west-web") == (1, "disabled")
    assert ask("is-active shop", "west-web") == (3, "inactive")
    assert ask("is-active nosuch") == (4, "inactive")
    assert ask("start nosuch")[0] == 5
    assert ask("show -p LoadState,ActiveState shop") == (
        0, "LoadState=loaded\nActiveState=active"
    )
    assert ask("show nosuch --property=LoadState --value") == (0, "not-found")
    assert ask("stop shop") == (0, "")
    assert ask("is-active shop") == (3, "inactive")
    assert "connection refused" in world.run("east-web", "curl -s http://198.51.100.10/").stdout
    assert ask("disable shop")[0] == 0
    assert ask("enable --now shop")[0] == 0
    assert ask("is-active shop") == (0, "active")
    assert ask("frobnicate shop")[0] == 1
    again = world.run("east-web", "tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value shop)"
                      "/environ | grep ^PORT=").stdout
    assert again == port != "", "a restart keeps the port"


def test_a_program_that_cannot_start_says_why(world: WorldHandle) -> None:
    said = world.run("west-web", "systemctl start shop")
    assert said.exit_code == 1
    assert "shop/shop.py" in said.stderr
    assert world.run("west-web", "systemctl is-active shop").stdout == "failed\n"
    assert world.run("west-web", "systemctl stop shop; systemctl is-active shop").exit_code == 3


def test_ssh_and_rsync_lead_to_the_other_hosts(world: WorldHandle) -> None:
    said = world.run(
        "east-web",
        "rsync -a -e 'ssh -o BatchMode=yes' shop/ root@west-web:copy/ && "
        "ssh -p 22 203.0.113.10 'pwd; cat copy/static/style.css' && "
        "rsync -a --delete west-web:copy/static/ back/ && cat back/app.js; "
        "ssh nowhere true; echo $?",
    )
    assert "/hosts/west-web" in said.stdout
    assert "system-ui" in said.stdout
    assert "getElementById" in said.stdout
    assert said.stdout.endswith("255\n")
    world.run("west-web", "rm -r copy")
    world.run("east-web", "rm -r back")


def test_the_fingerprint_tells_what_changed(world: WorldHandle) -> None:
    before = world.fingerprint()
    assert before.digest == world.fingerprint().digest
    world.run("east-web", "echo x > new; chmod 600 shop.conf; rm shop/static/app.js.x; true")
    world.run("east-web", "curl -s http://shop.example/orders -d x; systemctl disable shop")
    world.run("east-web", "mkdir -p .runbook/jobs; echo x > .runbook/jobs/1; echo x > a.log")
    changed = world.diff(before, world.fingerprint())
    assert len(changed) == 3, changed
    assert changed[0].startswith("east-web:new appeared (0644")
    assert changed[1].startswith("east-web:shop.conf changed: 0644")
    assert changed[2] == "service east-web/shop changed: active enabled → active disabled"
    parts = (before.parts, world.fingerprint().parts)
    assert {k for k in parts[0] if parts[0][k] != parts[1][k]} == {"files east-web", "services"}
    world.run("east-web", "rm -r new .runbook a.log; chmod 644 shop.conf; systemctl enable shop")
    assert world.diff(before, world.fingerprint()) == []


def test_another_process_can_attach_but_not_end_it(world: WorldHandle, tmp_path: Path) -> None:
    other = WorldHandle.attach(world.directory)
    assert other.endpoints == world.endpoints
    other.stop()
    assert world.run("east-web", "true").exit_code == 0
    with pytest.raises(Errored, match="no sandbox world"):
        WorldHandle.attach(tmp_path)


_STARTER = """
import sys
from pathlib import Path
from runbook.sandbox.handle import start_world
from tests.sandbox.worlds import SHOP, shop_plan
world = start_world(shop_plan(), SHOP / "sandbox.yml", Path(sys.argv[1]))
print(world.run("east-web", "echo $RUNBOOK_SANDBOX").stdout.strip(), flush=True)
sys.stdin.read()
"""


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    directory = tmp_path / "w"
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(directory)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=SHOP.parents[1],
    ) as starter:
        assert starter.stdout
        identity = starter.stdout.readline().strip()
        assert marked(identity)
        os.kill(starter.pid, signal.SIGKILL)
        starter.wait()
    deadline = time.monotonic() + 10
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert marked(identity) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(Refused, match="not empty"):
        start_world(shop_plan(), SHOP / "sandbox.yml", tmp_path)
    assert (tmp_path / "mine").exists()


def sandbox_file(folder: Path, text: str) -> Path:
    path = folder / "sandbox.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts: {north: {}}", "1:9: error: hosts.north: not in the inventory"),
        ("hosts: {easy-web: {}}", "hint: did you mean `east-web`"),
        ("hosts: {east-web: {fiels: {}}}", "1:20: error: hosts.east-web.fiels: unknown key"),
        ("hosts: {east-web: {fiels: {}}}", "hint: did you mean `files`?"),
        ("hosts: {east-web: {files: {x: {txet: a}}}}", "hint: did you mean `text`?"),
        ("traffic: {reed: []}", "hint: did you mean `read`"),
        ("hosts: {east-web: {programs: [{name: x}]}}", "programs.0: `command` is missing"),
        ("hosts: [", "not valid YAML"),
        ("hosts: [1]", "1:8: error: hosts: has to be a mapping"),
        ("[]", "1:1: error: the file: has to be a mapping"),
        ("zones: {shop.example: nowhere}", "1:23: error: zones.shop.example: there is no file now"),
        ("time:\n  scale: 0", "2:10: error: time.scale: has to be greater than or equal to 1"),
        ("{}", "the runbook's zone shop.example. has no file"),
        ("hosts: {east-web: {files: {/etc/x: {text: a}}}}", "relative to the login folder"),
        ("hosts: {east-web: {files: {x: {text: a, mode: 9}}}}", "mode: has to be a text"),
        ("hosts: {east-web: {programs: [{name: x, command: 'true', listen: [http]}]}}",
         "1:67: error: hosts.east-web.programs.0.listen.0: listen http is no port"),
        (f"zones: {{shop.example: {SHOP / 'shop.example.zone'}}}\n"
         "secrets: {tsig: 'a:hmac-sha256:c2FuZA=='}\n"
         "routes: {'192.0.2.1:80': '192.0.2.2:80'}",
         "3:26: error: routes.192.0.2.1:80: nothing listens at 192.0.2.2:80"),
        (f"zones: {{shop.example: {SHOP / 'shop.example.zone'}}}\nsecrets: {{}}",
         "2:10: error: secrets.tsig: zone shop.example. needs it as name:algorithm:base64"),
    ],
)
def test_a_wrong_sandbox_file_is_explained_and_leaves_nothing(
    tmp_path: Path, text: str, said: str
) -> None:
    path = sandbox_file(tmp_path, text)
    with pytest.raises(InvalidInput) as caught:
        start_world(shop_plan(), path, tmp_path / "w")
    told = caught.value.render()
    assert said in told
    assert told.startswith(f"{path}:") and told.count("error: ") == 1
    assert not (tmp_path / "w").exists()


def test_a_sandbox_does_not_pretend_to_have_views(tmp_path: Path) -> None:
    plan = shop_plan()
    inside = plan.zones[0].model_copy(update={"view": "inside"})
    plan = plan.model_copy(update={"zones": (*plan.zones, inside)})
    with pytest.raises(InvalidInput) as caught:
        start_world(plan, SHOP / "sandbox.yml", tmp_path / "w")
    assert "shop.example@inside is a view" in caught.value.render()
    assert not (tmp_path / "w").exists()


def test_a_program_that_fails_at_the_beginning_is_explained(tmp_path: Path) -> None:
    plan = shop_plan().model_copy(update={"zones": ()})
    path = sandbox_file(
        tmp_path, "hosts:\n  east-web:\n    programs:\n"
        "      - {name: x, command: sh -c 'echo so; echo no >&2; exit 3', listen: [80]}\n",
    )
    with pytest.raises(InvalidInput) as caught:
        start_world(plan, path, tmp_path / "w")
    assert caught.value.render().splitlines()[:5] == [
        f"{path}:4:9: error: hosts.east-web.programs.0: the program x ended at once with code 3; "
        "it wrote last:", "  so", "  no",
        "  4 |       - {name: x, command: sh -c 'echo so; echo no >&2; exit 3', listen: [80]}",
        "    |         ^",
    ]
    assert "$PORT_80 for 80" in caught.value.diagnostics[0].hint
    assert "taken down again" in caught.value.state
    assert not (tmp_path / "w").exists()


def test_a_program_that_listens_elsewhere_is_told_where_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_START_PATIENCE", 0.3)
    ports = programs.PortReserve()
    program = programs.Program(
        config=ProgramConfig(name="web", command="sh -c 'echo up at 80; sleep 60'", listen=[80]),
        space=HostSpace("east-web", tmp_path, {}), ports={"80": ports.take()},
        log=tmp_path / "log", enabled=True,
    )
    try:
        said = asyncio.run(program.start())
    finally:
        ports.release()
    assert "does not listen at the port in $PORT_80 after" in said
    assert said.endswith("it wrote last:\n  up at 80")
