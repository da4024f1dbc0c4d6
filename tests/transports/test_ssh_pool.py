"""The pool against a real OpenSSH server: queries, jobs, lost connections, dead controllers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored, Fenced, HostKeyRefused, InDoubt, NotFound, Refused
from runbook.model.actions import ActionResult, RunCommand
from runbook.transports.ssh.jobs import Reconnect
from runbook.transports.ssh.pool import SshPool
from tests.transports.ssh_lab import (
    HASTY,
    Sshd,
    free_port,
    key,
    keygen,
    make_pool,
    needs_root,
    needs_sshd,
    needs_sudo,
    silent,
    until,
)

pytestmark = [pytest.mark.lab, needs_sshd, needs_root]
MARK = "⟦secret:PW⟧"
PW = "correct-horse-battery"


@pytest.fixture
def pool(sshd: Sshd, tmp_path: Path) -> Iterator[SshPool]:
    made = make_pool(sshd.inventory(), tmp_path / "state", secrets={"PW": PW})
    yield made
    made.close()


def run(script: str, **changes: object) -> RunCommand:
    return RunCommand.model_validate({"host": "web1", "script": script, **changes})


class Background:
    """One performance in a thread."""

    def __init__(self, pool: SshPool, action: RunCommand, node: str = "step@web1") -> None:
        self.lines: list[str] = []
        self.result: ActionResult | None = None
        self.fault: Exception | None = None
        self._thread = threading.Thread(
            target=self._run, args=(pool, action, node), daemon=True
        )
        self._thread.start()

    def _run(self, pool: SshPool, action: RunCommand, node: str) -> None:
        try:
            self.result = pool.perform(action, key(node), self.lines.append)
        except Exception as fault:  # noqa: BLE001 - handed to the test's own thread
            self.fault = fault

    def end(self) -> ActionResult:
        self._thread.join(40)
        assert not self._thread.is_alive()
        if self.fault is not None:
            raise self.fault
        assert self.result is not None
        return self.result


def test_queries(pool: SshPool, sshd: Sshd) -> None:
    reads = pool.host_reads("web1")
    assert reads.host is not None and reads.host.name == "web1"
    done = reads.query('echo "$A"; pwd; echo oops >&2; exit 3', env={"A": f"<{MARK}>"})
    assert (done.exit_code, done.stdout) == (3, f"<{MARK}>\n{sshd.home}\n")
    assert done.stderr == "oops\n"
    with pytest.raises(Errored, match="did not end within 1 s"):
        reads.query("sleep 30", timeout=1)
    with pytest.raises(Refused, match="PW"):
        reads.query(f"echo {MARK}")
    assert reads.query("pwd", cwd="/usr").stdout == "/usr\n"
    with pytest.raises(NotFound):
        pool.host_reads("nobody-knows")


def test_files_as_they_stand(pool: SshPool, tmp_path: Path) -> None:
    reads = pool.host_reads("web1")
    file, link = tmp_path / "a b", tmp_path / "link"
    file.write_text("hello\n")
    file.chmod(0o640)
    link.symlink_to(file)
    state = reads.file(str(file))
    assert (state.kind, state.size, state.mode, state.owner) == ("file", 6, 0o640, "root")
    assert state.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert reads.file(str(link)).kind == "link"
    assert reads.file(str(tmp_path)).kind == "directory"
    assert not reads.file(str(tmp_path / "none")).exists
    assert not reads.file(str(file / "below")).exists


def test_a_file_that_may_not_be_looked_at_is_no_absent_file(pool: SshPool, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    with pytest.raises(Errored, match=r"Permission denied"):
        pool.host_reads("web1").file(str(closed / "f"), run_as="nobody")


def test_services_by_systemctl(pool: SshPool, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(
        "#!/bin/sh\ncase $1:$2 in is-active:app) echo active;; is-enabled:app) echo enabled;;\n"
        "is-active:off) echo inactive; exit 3;; is-enabled:off) echo disabled; exit 1;;\n"
        "is-active:none) echo inactive; exit 3;; is-enabled:*) echo 'Failed to get unit file' >&2;"
        " exit 1;; *) echo 'System has not been booted with systemd' >&2; exit 1;; esac\n"
    )
    (tools / "systemctl").chmod(0o755)
    server = Sshd.make(tmp_path / "other")
    server.path = str(tools)
    server.start()
    other = make_pool(server.inventory(), tmp_path / "state2")
    try:
        reads = other.host_reads("web1")
        seen = {name: reads.service(name) for name in ("app", "off", "none")}
        assert {n: (s.exists, s.active, s.enabled) for n, s in seen.items()} == {
            "app": (True, True, True), "off": (True, False, False), "none": (False, False, False),
        }
        with pytest.raises(Errored, match="has not been booted"):
            reads.service("broken")
    finally:
        other.close()
        server.stop()


def test_a_command_its_output_and_its_exit_code(pool: SshPool, tmp_path: Path) -> None:
    lines: list[str] = []
    action = run(f"echo out; printf 'pw=%s' {'$PW'}; echo err >&2; exit 3", env={"PW": MARK})
    result = pool.perform(action, key(), lines.append)
    assert (result.ok, result.detail) == (False, "exit code 3: err")
    assert result.data["exit_code"] == 3
    assert "stdout_cut" not in result.data
    assert result.data["stdout"] == f"out\npw={MARK}"
    assert Path(result.data["stdout_path"]).read_text() == f"out\npw={MARK}"
    assert Path(result.data["stderr_path"]).read_text() == "err\n"
    assert sorted(lines) == ["err", "out", f"pw={MARK}"]
    json.dumps(result.model_dump(mode="json"))
    assert pool.perform(run("exit 3", ok_codes=(0, 3)), key("b"), silent).ok


def test_a_secret_in_a_script_is_refused_before_anything(pool: SshPool, sshd: Sshd) -> None:
    with pytest.raises(Refused, match="PW"):
        pool.perform(run(f"echo {MARK}"), key(), silent)
    assert not (sshd.home / ".runbook").exists()


@pytest.mark.parametrize("changes", [
    {"script": "echo a\0b"}, {"env": {"NAME": "a\0b"}}, {"cwd": "/tmp/\0"},
    {"timeout": float("inf")}, {"timeout": 1e300}, {"timeout": float("nan")},
], ids=repr)
def test_what_cannot_be_sent_is_refused_and_leaves_no_doubt(
    pool: SshPool, changes: dict[str, object]
) -> None:
    action = run("true").model_copy(update=changes)
    with pytest.raises(Refused):
        pool.perform(action, key(), silent)
    assert pool.resolve(run("true"), key()).outcome == "not_done"
    assert pool.perform(run("true"), key(), silent).ok


def test_fifty_megabytes_are_linear_and_redacted(pool: SshPool) -> None:
    """Chunks cut the value in two somewhere; nowhere may a piece of it stay."""
    script = (
        "yes \"$(head -c 1009 /dev/zero | tr '\\0' x)$PW\" | head -c 52428800; "
        "printf '\\0\\377'"
    )
    result = pool.perform(run(script, env={"PW": MARK}), key(), silent)
    assert result.ok
    data = Path(result.data["stdout_path"]).read_bytes()
    line = b"x" * 1009 + MARK.encode() + b"\n"
    raw = 1009 + len(PW) + 1
    whole, rest = divmod(52428800, raw)
    assert data.startswith(line * whole)
    assert data[len(line) * whole :] == b"x" * rest + b"\0\xff"
    assert len(result.data["stdout"].encode()) <= 64 * 1024 + 4
    assert result.data["stdout_cut"] is True
    assert PW not in result.data["stdout"]


def test_a_lost_connection_loses_and_repeats_nothing(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    fifo, last = tmp_path / "go", tmp_path / "last"
    os.mkfifo(fifo)
    os.mkfifo(last)
    work = Background(pool, run(
        f"echo x >>{tmp_path}/count; echo begun; read w <{fifo}; echo $w; read w <{last}; exit 7"
    ))
    until(lambda: work.lines == ["begun"])
    assert sshd.cut() == 1
    fifo.write_text("middle\n")
    until(lambda: work.lines == ["begun", "middle"])
    assert sshd.cut() >= 1
    last.write_text("end\n")
    result = work.end()
    assert result.data["exit_code"] == 7
    assert result.data["stdout"] == "begun\nmiddle\n"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_host_that_does_not_come_back_is_in_doubt(sshd: Sshd, tmp_path: Path) -> None:
    pool = make_pool(sshd.inventory(), tmp_path / "state", reconnect=HASTY)
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    work = Background(pool, run(f"echo begun; read w <{fifo}; exit 7"))
    until(lambda: work.lines == ["begun"])
    sshd.stop()
    with pytest.raises(InDoubt, match="does not come back") as caught:
        work.end()
    assert "resume" in caught.value.hint
    unknown = pool.resolve(run(f"echo begun; read w <{fifo}; exit 7"), key())
    assert unknown.outcome == "unknown"
    with pytest.raises(InDoubt):
        pool.perform(run(f"echo begun; read w <{fifo}; exit 7"), key(), silent)
    sshd.start()
    assert pool.resolve(run(f"echo begun; read w <{fifo}; exit 7"), key()).outcome == "running"
    fifo.write_text("go\n")
    result = pool.perform(run(f"echo begun; read w <{fifo}; exit 7"), key(), silent)
    assert (result.data["exit_code"], result.data["stdout"]) == (7, "begun\n")
    pool.close()


def test_a_host_that_never_answered_is_errored(tmp_path: Path, sshd: Sshd) -> None:
    sshd.stop()
    pool = make_pool(sshd.inventory(), tmp_path / "state", reconnect=HASTY)
    for _ in range(2):
        with pytest.raises(Errored, match="no connection") as caught:
            pool.perform(run("true"), key(), silent)
        assert not isinstance(caught.value, InDoubt)
    pool.close()


CONTROLLER = """
import sys
from pathlib import Path
from runbook.model.actions import RunCommand
from runbook.model.inventory import Inventory
from tests.transports.ssh_lab import key, make_pool
inventory, state, script = sys.argv[1:]
pool = make_pool(Inventory.model_validate_json(inventory), Path(state))
result = pool.perform(
    RunCommand(host="web1", script=script), key(), lambda line: print(line, flush=True)
)
print("code", result.data["exit_code"], flush=True)
pool.close()
"""


@pytest.mark.parametrize("again", ["resolve", "perform"])
def test_a_dead_controller_loses_and_repeats_nothing(
    sshd: Sshd, tmp_path: Path, again: str
) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = f"echo x >>{tmp_path}/count; echo begun; read w <{fifo}; seq 1 20000; exit 9"
    words = [sshd.inventory().model_dump_json(), str(tmp_path / "state"), script]
    first = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, *words], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    first.stdout.close()
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    try:
        assert pool.resolve(run(script), key()).outcome == "running"
        whole = "begun\n" + "".join(f"{n}\n" for n in range(1, 20001))
        if again == "perform":
            work = Background(pool, run(script))
            fifo.write_text("go\n")
            result = work.end()
        else:
            fifo.write_text("go\n")
            until(lambda: pool.resolve(run(script), key()).outcome == "done")
            found = pool.resolve(run(script), key()).result
            assert found is not None
            result = found
        assert result.data["exit_code"] == 9
        assert Path(result.data["stdout_path"]).read_text() == whole
        assert result.data["stdout"] == whole[: 64 * 1024]
    finally:
        pool.close()
    assert (tmp_path / "count").read_text() == "x\n"


def test_what_can_be_found_out_after_a_crash(pool: SshPool, sshd: Sshd, tmp_path: Path) -> None:
    assert pool.resolve(run("true"), key("never")).outcome == "not_done"
    pool.perform(run("exit 4"), key("ended"), silent)
    found = pool.resolve(run("exit 4"), key("ended"))
    assert found.outcome == "done" and found.result is not None
    assert found.result.data["exit_code"] == 4
    assert pool.resolve(run("exit 5"), key("ended")).outcome == "unknown"
    with pytest.raises(InDoubt, match="another command"):
        pool.perform(run("exit 5"), key("ended"), silent)


def test_another_spool_makes_the_missing_unknown(sshd: Sshd, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    first = make_pool(sshd.inventory(), tmp_path / "state", on_open=lambda *a: told.append(a))
    assert first.host_reads("web1").query("true").exit_code == 0
    assert told == [], "who only reads leaves no mark"
    first.prepare(("web1",), {})
    assert told == [("web1", first.markers()["web1"])]
    first.close()
    shutil.rmtree(sshd.home / ".runbook")
    second = make_pool(sshd.inventory(), tmp_path / "state", on_open=lambda *a: told.append(a))
    second.expect_markers(dict(told))
    found = second.resolve(run("true"), key())
    assert found.outcome == "unknown" and "spool" in found.detail
    assert len(told) == 1, "the journal keeps the marker that tells them apart"
    assert second.perform(run("true"), key("new"), silent).ok
    second.close()


def test_a_session_that_is_older_than_the_spool_learns_of_it(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    told: list[tuple[str, str]] = []
    pool.on_open = lambda *a: told.append(a)
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(
            pool.host_reads("web1").query, f"echo begun >{tmp_path}/begun; read w <{fifo}"
        )
        until((tmp_path / "begun").exists)
        assert pool.perform(run("true"), key("first@web1"), silent).ok
        fifo.write_text("go\n")
        assert early.result().exit_code == 0
    works = [Background(pool, run("echo x; sleep 1"), node=f"w{n}@web1") for n in range(2)]
    for work in works:
        work.end()
    assert told == [("web1", pool.markers()["web1"])]


def test_a_spool_that_goes_away_under_way_is_in_doubt(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    work = Background(pool, run(f"echo x >>{tmp_path}/count; echo begun; read w <{fifo}"))
    until(lambda: work.lines == ["begun"])
    shutil.rmtree(sshd.home / ".runbook")
    sshd.cut()
    with pytest.raises(InDoubt):
        work.end()
    fifo.write_text("go\n")
    assert (tmp_path / "count").read_text() == "x\n"


def test_an_older_controller_is_fenced_off(pool: SshPool, sshd: Sshd, tmp_path: Path) -> None:
    pool.prepare(("web1",), {})
    newer = make_pool(sshd.inventory(), tmp_path / "state2", epoch=2)
    newer.prepare(("web1",), {})
    with pytest.raises(Fenced):
        pool.perform(run(f"touch {tmp_path}/ran"), key(epoch=1), silent)
    assert not (tmp_path / "ran").exists()
    assert newer.perform(run("true"), key(epoch=2), silent).ok
    newer.fence(3)
    newer.close()
    assert (sshd.home / ".runbook/move-1/epoch").read_text() == "3\n"


def test_a_timeout_is_told_and_kills(pool: SshPool) -> None:
    result = pool.perform(run("echo begun; sleep 60", timeout=1), key(), silent)
    assert not result.ok
    assert result.detail == "killed after its timeout of 1 s: begun"
    assert result.data["exit_code"] == 124


def test_kill(pool: SshPool) -> None:
    work = Background(pool, run("echo begun; sleep 60"))
    until(lambda: work.lines == ["begun"])
    pool.kill(run("echo begun; sleep 60"), key())
    assert work.end().data["exit_code"] == 143


def group_lives(group: int) -> bool:
    """Whether a process group has a member that is not a zombie."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        if int(words[2]) == group and words[0] not in "ZX":
            return True
    return False


def test_a_lost_command_is_begun_again_only_where_it_may(pool: SshPool, tmp_path: Path) -> None:
    def lose(action: RunCommand, node: str) -> None:
        work = Background(pool, action, node)
        until(lambda: work.lines == ["begun"])
        pid = int((tmp_path / "pid").read_text())
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        os.kill(parent, signal.SIGSTOP)
        os.killpg(pid, signal.SIGKILL)
        until(lambda: not group_lives(pid))  # Dying takes its time on a busy machine.
        os.kill(parent, signal.SIGKILL)
        if action.idempotent:
            assert work.end().data["stdout"] == "second\n"
        else:
            with pytest.raises(InDoubt):
                work.end()

    script = (
        f"[ -e {tmp_path}/once ] && {{ echo second; exit 0; }}; touch {tmp_path}/once; "
        f"echo $$ >{tmp_path}/pid; echo begun; sleep 60; :"
    )
    lose(run(script), "a")
    (tmp_path / "once").unlink()
    lose(run(script, idempotent=True), "b")


def test_a_changed_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other}")
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    with pytest.raises(HostKeyRefused, match="not the known one: ssh-ed25519 SHA256:") as caught:
        pool.perform(run(f"touch {tmp_path}/ran"), key(), silent)
    assert "nothing was sent" in caught.value.hint
    assert not (tmp_path / "ran").exists()
    pool.close()


@pytest.mark.parametrize("line", ["", "@cert-authority * {key}", "# {port} {key}", "junk"])
def test_an_unknown_host_is_refused(sshd: Sshd, tmp_path: Path, line: str) -> None:
    sshd.known_hosts.write_text(line.format(key=sshd.key_line(), port=sshd.port) + "\n")
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    with pytest.raises(HostKeyRefused, match="not in any known_hosts") as caught:
        pool.host_reads("web1").query("true")
    assert ("certificate authority" in caught.value.hint) == line.startswith("@")
    assert ("skipped" in caught.value.hint) == (line == "junk")
    pool.close()


def test_a_revoked_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    with sshd.known_hosts.open("a") as file:
        file.write(f"@revoked * {sshd.key_line()}\n")
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    with pytest.raises(HostKeyRefused, match="revoked"):
        pool.host_reads("web1").query("true")
    pool.close()


def test_a_key_refused_at_the_reconnection_is_in_doubt(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    work = Background(pool, run(f"echo begun; read w <{fifo}"))
    until(lambda: work.lines == ["begun"])
    sshd.stop()
    (sshd.folder / "host_key").unlink()
    keygen(sshd.folder / "host_key")
    sshd.start()
    with pytest.raises(InDoubt, match="not the known one"):
        work.end()
    fifo.write_text("go\n")


def test_through_a_jump_host_every_hop_is_checked(sshd: Sshd, tmp_path: Path) -> None:
    inner = Sshd.make(tmp_path / "inner")
    inner.start()
    known = tmp_path / "known"
    known.write_text(sshd.known_hosts.read_text() + inner.known_hosts.read_text())
    hosts = (sshd.host("bastion"), inner.host("db1", jump="bastion"))
    try:
        pool = make_pool(sshd.inventory(*hosts, known_hosts=[known]), tmp_path / "state")
        assert pool.host_reads("db1").query("echo $HOME").stdout == f"{inner.home}\n"
        pool.prepare(("db1",), {})
        assert set(pool.markers()) == {"db1"}
        pool.close()
        pool = make_pool(
            sshd.inventory(*hosts, known_hosts=[inner.known_hosts]), tmp_path / "state"
        )
        with pytest.raises(HostKeyRefused, match="bastion"):
            pool.host_reads("db1").query("true")
        pool.close()
    finally:
        inner.stop()


def test_proxyjump_of_ssh_config_is_checked_too(sshd: Sshd, tmp_path: Path) -> None:
    inner = Sshd.make(tmp_path / "inner")
    inner.start()
    host = inner.host(address="db-alias", port=None, user=None)
    try:
        # fabric takes a jump of the same name for the host itself, so it has another here.
        jump = f"[localhost]:{sshd.port} {sshd.key_line()}\n"
        for fine in (True, False):
            known = tmp_path / "known"
            known.write_text(inner.known_hosts.read_text() + (jump if fine else ""))
            inventory = sshd.inventory(host, known_hosts=[known])
            config = Path(inventory.ssh_config or "")
            config.write_text(
                f"Host db-alias\n HostName 127.0.0.1\n Port {inner.port}\n User root\n"
                f" ProxyJump root@localhost:{sshd.port}\n"
                f"Host localhost\n IdentityFile {sshd.folder}/id\n"
                "Host *\n UserKnownHostsFile none\n GlobalKnownHostsFile none\n"
            )
            pool = make_pool(inventory, tmp_path / "state")
            if fine:
                assert pool.host_reads("web1").query("echo $HOME").stdout == f"{inner.home}\n"
            else:
                with pytest.raises(HostKeyRefused):
                    pool.host_reads("web1").query("true")
            pool.close()
    finally:
        inner.stop()


def test_jumps_in_a_circle(sshd: Sshd, tmp_path: Path) -> None:
    hosts = (sshd.host("a", jump="b"), sshd.host("b", jump="a"))
    pool = make_pool(sshd.inventory(*hosts), tmp_path / "state")
    with pytest.raises(Errored, match="a -> b -> a"):
        pool.host_reads("a").query("true")
    pool.close()


def test_prepare_names_everything_that_fails(sshd: Sshd, tmp_path: Path) -> None:
    hosts = (sshd.host("good"), sshd.host("dead", port=free_port()),
             sshd.host("stranger", identity=str(keygen(tmp_path / "other"))))
    inventory = sshd.inventory(*hosts)
    pool = make_pool(inventory, tmp_path / "state", reconnect=HASTY)
    with pytest.raises(Errored) as caught:
        pool.prepare(("good", "dead", "stranger"), {"good": ("no-such-user",)})
    assert all(name in caught.value.message for name in ("good:", "dead (", "stranger ("))
    assert "no-such-user" in caught.value.message
    pool.prepare(("good",), {"good": ("nobody",)} if shutil.which("sudo") else {})
    pool.close()


@needs_sudo
def test_commands_as_another_user(pool: SshPool) -> None:
    action = run("id -un; echo $PW; exit 3", run_as="nobody", env={"PW": MARK}, timeout=20)
    result = pool.perform(action, key(), silent)
    assert (result.data["stdout"], result.data["exit_code"]) == (f"nobody\n{MARK}\n", 3)
    assert pool.host_reads("web1").query("id -un", run_as="nobody").stdout == "nobody\n"


def test_one_session_at_a_time_is_enough(tmp_path: Path) -> None:
    server = Sshd.make(tmp_path / "narrow", "MaxSessions 1")
    server.start()
    pool = make_pool(server.inventory(), tmp_path / "state")
    try:
        works = [Background(pool, run(f"sleep 0.2; exit {n}"), f"n{n}") for n in range(1, 6)]
        assert [work.end().data["exit_code"] for work in works] == [1, 2, 3, 4, 5]
        pool.host_reads("web1").query("true")
    finally:
        pool.close()
        server.stop()


def test_several_channels_only_when_needed(pool: SshPool, sshd: Sshd, tmp_path: Path) -> None:
    for n in range(3):
        pool.perform(run("true"), key(f"n{n}"), silent)
    spool = sshd.home / ".runbook/move-1/tmp"
    assert len(list(spool.iterdir())) == 1
    works = [Background(pool, run("sleep 0.5"), f"w{n}") for n in range(3)]
    assert all(work.end().ok for work in works)
    assert len(list(spool.iterdir())) == 3


def test_banner_noise_of_the_login_shell(pool: SshPool, sshd: Sshd) -> None:
    sshd.home.joinpath(".bashrc").write_text(
        "echo Welcome; head -c 3000000 /dev/zero >&2; printf 'no line end'\n"
    )
    assert pool.perform(run("echo clean"), key(), silent).data["stdout"] == "clean\n"


def test_a_dead_session_is_replaced_for_a_query(pool: SshPool, sshd: Sshd) -> None:
    reads = pool.host_reads("web1")
    reads.query("true")
    sshd.cut()
    assert reads.query("echo again").stdout == "again\n"


def test_a_tunnel_reaches_what_the_host_reaches(pool: SshPool, sshd: Sshd) -> None:
    channel = pool.tunnel("web1", "127.0.0.1", sshd.port)
    channel.settimeout(5)
    assert channel.recv(4) == b"SSH-"
    channel.close()
    with pytest.raises(Errored, match="cannot reach"):
        pool.tunnel("web1", "127.0.0.1", free_port())


def logins(sshd: Sshd) -> int:
    return (sshd.folder / "log").read_text().count("Accepted publickey")


def test_a_rehearsal_cuts_the_connection_behind_a_request(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    """The request arrives, its answer is lost; the command is attached to and not run again."""
    count = tmp_path / "count"
    pool.prepare(("web1",), {})
    cuts: list[str] = []
    pool.cut_next("web1", lambda: cuts.append("cut"))
    before = logins(sshd)
    result = pool.perform(run(f"echo once >>{count}; echo said"), key(), silent)
    assert result.ok
    assert count.read_text() == "once\n"
    assert logins(sshd) == before + 1, "it was logged in once more, so it had been cut"
    assert pool.perform(run("true"), key("next@web1"), silent).ok
    assert logins(sshd) == before + 1, "one cut only"
    assert cuts == ["cut"]


def test_tidy_removes_the_spool_unless_something_runs(
    pool: SshPool, sshd: Sshd, tmp_path: Path
) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    work = Background(pool, run(f"echo begun; read w <{fifo}"))
    until(lambda: work.lines == ["begun"])
    with pytest.raises(Refused, match="still runs"):
        pool.tidy()
    fifo.write_text("go\n")
    work.end()
    pool.tidy()
    assert not (sshd.home / ".runbook/move-1").exists()


def test_nothing_is_left_after_closing(sshd: Sshd, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    mine = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    children = mine.read_text()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    pool.prepare(("web1",), {})
    for host in ("web1", None):
        assert pool.perform(run("true", host=host), key(f"on-{host}"), silent).ok
    pool.tunnel("web1", "127.0.0.1", sshd.port).close()
    pool.close()
    assert set(threading.enumerate()) <= before
    assert mine.read_text() == children
    until(lambda: len(sshd.children()) == 0)
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    with pytest.raises(Errored, match="closed"):
        pool.host_reads("web1").query("true")


def test_the_key_of_a_step_is_safe_as_a_file_name(pool: SshPool, tmp_path: Path) -> None:
    node = "../a b/c%d~é@web1" + "x" * 300
    result = pool.perform(run("echo hi"), key(node), silent)
    assert Path(result.data["stdout_path"]).parent == tmp_path / "state/runs/move-1/output"


def test_patience_counts_pauses() -> None:
    assert list(Reconnect(patience=1.0, first=0.2, longest=0.5).pauses()) == [0.2, 0.4, 0.5]


def test_this_machines_own_name_is_not_looked_up(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko asks for it to replace a token that nobody wrote: seconds for every host, on a
    controller whose name nobody knows."""
    def asked(*_: object) -> str:
        raise AssertionError("the machine's own name was looked up")

    monkeypatch.setattr("paramiko.config.socket.getfqdn", asked)
    inventory = sshd.inventory()
    assert inventory.ssh_config is not None
    config = Path(inventory.ssh_config)
    config.write_text(config.read_text() + f"  IdentityFile {sshd.folder}/id\n")
    pool = make_pool(inventory, tmp_path / "state")
    try:
        assert pool.host_reads("web1").query("echo hello").stdout == "hello\n"
        config.write_text(config.read_text().replace("/id", "/%l"))
        with pytest.raises(AssertionError, match="own name"):
            make_pool(inventory, tmp_path / "other").host_reads("web1").query("true")
    finally:
        pool.close()
