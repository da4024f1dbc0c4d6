"""The runner itself, over a local shell, in every shell that it promises to work in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.transports.ssh.protocol import (
    Launch,
    Reply,
    kill_request,
    plain_request,
    program,
    start_line,
    wait_request,
)
from runbook.transports.ssh.session import ProcessWire, RunnerRefused, Session, SessionLost
from tests.transports.ssh_lab import needs_root, needs_sudo, until

SHELLS = {
    "dash": ["/bin/dash"],
    "bash": ["/bin/bash"],
    "busybox": [shutil.which("busybox") or "/bin/busybox", "sh"],
    "ksh": [shutil.which("ksh93") or "/bin/ksh93"],
    "zsh": [shutil.which("zsh") or "/bin/zsh", "--emulate", "sh"],
}
TOOLS = ("cat", "head", "tail", "stat", "sync", "sleep", "timeout", "setsid", "mkdir", "mv", "rm",
         "id", "true", "sh", "printf")


class Lab:
    """Runners of one kind of shell on one spool."""

    def __init__(self, name: str, base: Path, env: dict[str, str] | None = None) -> None:
        self.argv = SHELLS[name]
        self.base = base
        self.env = env
        self.wires: list[ProcessWire] = []
        self.sessions: list[Session] = []
        self.here = self.open()

    def open(self) -> Session:
        wire = ProcessWire(self.argv, env=self.env)
        session = Session(wire, run="r1", base=str(self.base), shell=" ".join(self.argv))
        self.wires.append(wire)
        self.sessions.append(session)
        return session

    def query(
        self, script: str, *, limit: int = 20, user: str = "", exports: str = "",
        password: str = "",
    ) -> Reply:
        request = plain_request(
            script, limit=limit, user=user, cwd="", password=password, exports=exports
        )
        return self.here.request(request, 30)

    def launch(
        self, job: str, script: str, *, session: Session | None = None, digest: str = "h",
        epoch: int = 0, wait: int = 10, exports: str = "", limit: int = 0, user: str = "",
        cwd: str = "", source: str = "", password: str = "", offsets: tuple[int, int] = (0, 0),
    ) -> Reply:
        at = session or self.here
        job_ = Launch(
            job=job, hash=digest, script=script, exports=exports, cwd=cwd, user=user,
            input=source, limit=limit, password=password,
        )
        return at.request(job_.request(epoch, at.mark(10), wait, offsets), 40)

    def wait(self, job: str, seconds: int = 10, digest: str = "h") -> Reply:
        return self.here.request(wait_request(job, digest, seconds, (0, 0)), 40)

    def folder(self, job: str) -> Path:
        return self.base / "r1" / job

    def close(self) -> None:
        for session in self.sessions:
            session.close()


@pytest.fixture(params=list(SHELLS))
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    if not Path(SHELLS[request.param][0]).exists():
        pytest.skip(f"{request.param} is not installed")
    made = Lab(request.param, tmp_path / "spool")
    yield made
    made.close()


def alive(pid: int) -> bool:
    """Running, not a zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_query_returns_code_output_and_bytes_as_they_are(lab: Lab) -> None:
    reply = lab.query("printf 'a\\0\\377b'; echo oops >&2; exit 3")
    assert (reply.status, reply.word) == ("done", "3")
    assert (reply.out, reply.err) == (b"a\x00\xffb", b"oops\n")


def test_every_character_of_a_script_arrives(lab: Lab) -> None:
    text = "".join(map(chr, [*range(1, 127), *range(161, 300)])) + "日本 \\n \\\\0101 %s \\c end"
    script = "cat <<'E_N_D'\n" + text.replace("\r", "") + "\nE_N_D\n"
    assert lab.query(script).out.decode() == text.replace("\r", "") + "\n"
    assert lab.launch("chars", script).out.decode() == text.replace("\r", "") + "\n"


def test_a_query_sees_the_environment_and_the_login_umask(lab: Lab) -> None:
    reply = lab.query('printf %s "$A"; umask', exports="export A='x y\n$z'\n")
    mask = subprocess.run(["sh", "-c", "umask"], capture_output=True, check=True).stdout
    text, _, found = reply.out.partition(b"$z")
    assert (text, int(found, 8)) == (b"x y\n", int(mask, 8))


def test_a_query_that_does_not_end_is_killed(lab: Lab) -> None:
    reply = lab.query("sleep 60", limit=1)
    assert reply.word in {"124", "137", "143"}


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exit_codes_come_back(lab: Lab, code: int) -> None:
    reply = lab.launch(f"j{code}", f"echo out; echo err >&2; exit {code}")
    assert reply == Reply("exit", str(code), b"out\n", b"err\n")


def test_death_by_signal_is_128_and_more(lab: Lab) -> None:
    assert lab.launch("j", "kill -s KILL $$").word == "137"


def test_a_job_may_change_its_path(lab: Lab) -> None:
    reply = lab.launch("j", "echo $PATH", exports="export PATH=/nowhere\n")
    assert reply == Reply("exit", "0", b"/nowhere\n")


def test_a_job_starts_in_its_working_directory(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    assert lab.launch("j", "pwd", cwd=str(tmp_path / "a b")).out.decode() == f"{tmp_path}/a b\n"
    missing = lab.launch("k", "echo ran", cwd=str(tmp_path / "none"))
    assert (missing.word, missing.out) == ("125", b"")


def test_a_job_reads_its_input_and_the_upload_is_gone_afterwards(lab: Lab) -> None:
    upload = lab.base / "r1" / "up" / "j^1"
    upload.write_bytes(b"x\0y")
    assert lab.launch("j", "cat", source=str(upload)).out == b"x\0y"
    assert not upload.exists()
    assert lab.launch("k", "cat", source=str(upload)).status == "no_input"
    assert lab.wait("k", 0).status == "not_started"


def test_secrets_are_in_the_environment_alone(lab: Lab) -> None:
    reply = lab.launch(
        "j", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'pass[w]ord-1234'; echo $PW",
        exports="export PW=password-1234\n",
    )
    assert reply.out == b"0\npassword-1234\n"
    spooled = [p for p in lab.base.rglob("*") if p.is_file() and p.name != "out"]
    assert spooled
    assert not [p for p in spooled if b"password-1234" in p.read_bytes()]


def test_the_spool_is_private(lab: Lab) -> None:
    lab.launch("j", "true")
    assert lab.base.joinpath("r1").stat().st_mode & 0o777 == 0o700
    assert lab.folder("j").stat().st_mode & 0o777 == 0o700


def test_the_same_key_attaches_and_never_runs_again(lab: Lab, tmp_path: Path) -> None:
    script = f"echo x >>{tmp_path}/count; echo done; exit 5"
    first, second = lab.launch("j", script), lab.launch("j", script)
    assert first == second == Reply("exit", "5", b"done\n")
    assert (tmp_path / "count").read_text() == "x\n"


def test_another_command_under_the_same_key_is_a_conflict(lab: Lab, tmp_path: Path) -> None:
    lab.launch("j", "true")
    assert lab.launch("j", f"touch {tmp_path}/ran", digest="other").status == "conflict"
    assert not (tmp_path / "ran").exists()


def test_twenty_launchers_of_one_key_make_one_run(lab: Lab, tmp_path: Path) -> None:
    sessions = [lab.open() for _ in range(20)]
    barrier = threading.Barrier(20)
    replies: list[Reply] = []

    def race(session: Session) -> None:
        barrier.wait(20)
        replies.append(
            lab.launch("j", f"echo x >>{tmp_path}/count; echo once; exit 9", session=session)
        )

    threads = [threading.Thread(target=race, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert replies == [Reply("exit", "9", b"once\n")] * 20
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_lower_epoch_is_refused(lab: Lab, tmp_path: Path) -> None:
    assert lab.here.request("fence 5", 10) == Reply("ok", "5")
    assert lab.here.request("fence 3", 10) == Reply("ok", "5")
    assert lab.launch("j", f"touch {tmp_path}/ran", epoch=4) == Reply("fenced", "5")
    assert not (tmp_path / "ran").exists()
    assert lab.launch("j", "true", epoch=5).status == "exit"


def test_a_lower_epoch_ends_and_removes_nothing(lab: Lab) -> None:
    lab.launch("j", "sleep 30", wait=0, epoch=3)
    lab.here.request("fence 5", 10)
    for request in (kill_request(4, "j", "h", "", ""), "forget 4 j", "prune 4", "tidy 4"):
        assert lab.here.request(request, 20) == Reply("fenced", "5")
    assert lab.wait("j", 0).status == "running"
    assert lab.here.request(kill_request(5, "j", "h", "", ""), 20).word == "143"


SLOW_SYNC = """#!/bin/sh
case $* in *started*) echo slow >>"{0}/syncs"; until [ -e "{0}/go" ]; do sleep 0.05; done ;; esac
exec {1} "$@"
"""


def slow_disk(tmp_path: Path) -> dict[str, str]:
    """An environment in which what a job has to have on disk is not there before ``go`` is."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sync").write_text(SLOW_SYNC.format(tmp_path, shutil.which("sync")))
    (tools / "sync").chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def test_a_fence_waits_for_what_is_about_to_begin(tmp_path: Path) -> None:
    """It has read the old epoch, so it will run; it is there to be found when the fence is up."""
    lab = Lab("dash", tmp_path / "spool", env=slow_disk(tmp_path))
    newer = lab.open()
    assert lab.launch("j", f"touch {tmp_path}/ran", epoch=1, wait=0).status == "running"
    until((tmp_path / "syncs").exists)
    answers: list[Reply] = []
    fence = threading.Thread(target=lambda: answers.append(newer.request("fence 2", 30)))
    fence.start()
    fence.join(1)
    assert answers == [], "the command has not begun, and may begin any time"
    assert lab.launch("k", f"touch {tmp_path}/stale", epoch=1, wait=0) == Reply("fenced", "2")
    (tmp_path / "go").touch()
    fence.join(20)
    assert answers == [Reply("ok", "2")]
    assert lab.wait("j").word == "0"
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "stale").exists()
    lab.close()


def test_a_supervisor_killed_before_its_record_is_on_disk_has_run_nothing(tmp_path: Path) -> None:
    """It cannot be told from one killed right after, so it is a doubt, and not a second run."""
    lab = Lab("dash", tmp_path / "spool", env=slow_disk(tmp_path))
    lab.launch("j", f"touch {tmp_path}/ran", wait=0)
    until((tmp_path / "syncs").exists)
    for entry in Path("/proc").glob("[0-9]*"):
        if _works_in(int(entry.name), lab.folder("j")):
            os.kill(int(entry.name), signal.SIGKILL)
    until(lambda: lab.wait("j", 1).status == "lost")
    assert lab.launch("j", f"touch {tmp_path}/ran").status == "lost"
    assert not (tmp_path / "ran").exists()
    lab.close()


def test_a_record_that_was_cut_short_is_none(lab: Lab, tmp_path: Path) -> None:
    """As a power cut leaves it: nothing begins before the record is on disk."""
    folder = lab.folder("j")
    folder.mkdir()
    (folder / "lock").touch()
    for rest in ("", "8f0c.12 ab", "\0" * 40):
        (folder / "started").write_text(rest)
        assert lab.wait("j", 0).status == "not_started"
    assert lab.launch("j", f"echo x >>{tmp_path}/count").status == "exit"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_launch_meant_for_another_spool_is_refused(lab: Lab, tmp_path: Path) -> None:
    request = Launch("j", "h", f"touch {tmp_path}/ran").request(0, "another-marker", 5, (0, 0))
    reply = lab.here.request(request, 10)
    assert (reply.status, reply.word) == ("marker", "none")
    marker = lab.here.mark(10)
    reply = lab.here.request(request, 10)
    assert (reply.status, reply.word) == ("marker", marker)
    assert not (tmp_path / "ran").exists()


def test_the_marker_stays_the_same_for_every_session(lab: Lab) -> None:
    assert lab.here.hello.marker == ""
    before = lab.open()
    assert before.mark(10) == lab.here.mark(10) == lab.open().hello.marker != ""


def test_a_timeout_kills_the_children_of_children(lab: Lab, tmp_path: Path) -> None:
    deaf = "trap '' TERM; " if lab.argv == SHELLS["dash"] else ""  # then it takes a KILL, late
    script = (
        f"(sh -c \"{deaf}echo \\$\\$ >{tmp_path}/far; while :; do sleep 1; done\" &)\n"
        f"sh -c 'echo $$ >{tmp_path}/child; sleep 60; :'"
    )
    reply = lab.launch("j", script, limit=1, wait=20)
    assert reply.word == "124.timedout"
    for name in ("far", "child"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_a_limit_that_is_not_reached_leaves_no_watcher(lab: Lab) -> None:
    for number in range(10):
        lab.launch(f"j{number}", "true", limit=3333)

    def left() -> list[int]:
        return [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))  # noqa: PTH208
            if _works_in(pid, lab.base) and alive(pid) and pid not in {w.pid for w in lab.wires}
        ]

    until(lambda: not left())


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder)
    except OSError:
        return False


def test_kill_ends_the_whole_group(lab: Lab, tmp_path: Path) -> None:
    script = f"sleep 61 & echo $! >{tmp_path}/pid; setsid sleep 62 & echo $! >{tmp_path}/far; wait"
    assert lab.launch("j", script, wait=1).status == "running"
    until((tmp_path / "far").exists)
    reply = lab.here.request(kill_request(0, "j", "h", "", ""), 20)
    assert (reply.status, reply.word) == ("exit", "143")
    for name in ("pid", "far"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_a_daemon_left_behind_does_not_hold_the_job(lab: Lab, tmp_path: Path) -> None:
    reply = lab.launch("j", f"sleep 30 >/dev/null 2>&1 & echo $! >{tmp_path}/pid", wait=5)
    assert reply.status == "exit"
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_job_outlives_its_runner(lab: Lab, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = f"echo begun; read word <{fifo}; echo $word; exit 6"
    reply = lab.launch("j", script, wait=1)
    assert (reply.status, reply.out) == ("running", b"begun\n")
    os.kill(lab.wires[0].pid, signal.SIGKILL)
    with pytest.raises(SessionLost):
        lab.wait("j")
    lab.here = lab.open()
    fifo.write_text("late\n")
    reply = lab.launch("j", script, offsets=(len(b"begun\n"), 0))
    assert reply == Reply("exit", "6", b"late\n")


def _with_lost_supervisor(lab: Lab, script: str) -> None:
    """Start a job and kill its supervisor."""
    lab.launch("j", script, wait=0)
    until(lab.folder("j").joinpath("pgid").exists)
    until(lambda: lab.folder("j").joinpath("pgid").read_text().strip() != "")
    job = int(lab.folder("j").joinpath("pgid").read_text())
    stat = Path(f"/proc/{job}/stat").read_text()
    os.kill(int(stat.rpartition(") ")[2].split()[1]), signal.SIGKILL)


def test_a_command_without_its_supervisor_is_an_orphan(lab: Lab) -> None:
    _with_lost_supervisor(lab, "sleep 30")
    assert lab.wait("j", 5).status == "orphan"
    assert lab.launch("j", "sleep 30").status == "orphan"
    os.killpg(int(lab.folder("j").joinpath("pgid").read_text()), signal.SIGKILL)
    until(lambda: lab.wait("j", 1).status == "lost")


def test_a_restart_of_the_machine_is_noticed(lab: Lab, tmp_path: Path) -> None:
    script = f"echo x >>{tmp_path}/count; sleep 30"
    _with_lost_supervisor(lab, script)
    until(lambda: (tmp_path / "count").exists() and (tmp_path / "count").read_text() == "x\n")
    os.killpg(int(lab.folder("j").joinpath("pgid").read_text()), signal.SIGKILL)
    started = lab.folder("j") / "started"
    started.write_text("another-boot.7 " + started.read_text().split()[1] + "\n")
    assert lab.launch("j", script).status == "lost_reboot"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_supervisor_that_never_came_is_no_start(lab: Lab, tmp_path: Path) -> None:
    folder = lab.folder("j")
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "cmd").write_text("half of a comm")
    assert lab.wait("j", 0).status == "not_started"
    assert lab.launch("j", f"echo x >>{tmp_path}/count").status == "exit"
    assert (tmp_path / "count").read_text() == "x\n"


def test_output_is_fetched_from_an_offset(lab: Lab) -> None:
    lab.launch("j", "printf 0123456789; printf abcdef >&2")
    reply = lab.here.request(wait_request("j", "h", 0, (4, 2)), 10)
    assert (reply.out, reply.err) == (b"456789", b"cdef")
    beyond = lab.here.request(wait_request("j", "h", 0, (99, 99)), 10)
    assert (beyond.status, beyond.out, beyond.err) == ("exit", b"", b"")


def test_forget_and_tidy_respect_what_runs(lab: Lab) -> None:
    lab.launch("j", "sleep 30", wait=0)
    assert lab.here.request("forget 0 j", 10).status == "busy"
    assert lab.here.request("tidy 0", 10).status == "busy"
    lab.here.request(kill_request(0, "j", "h", "", ""), 20)
    assert lab.here.request("forget 0 j", 10).status == "ok"
    assert lab.wait("j", 0).status == "not_started"
    assert lab.here.request("tidy 0", 10).status == "ok"
    assert not lab.base.joinpath("r1").exists()


def test_what_the_spool_cannot_take_is_refused_and_never_runs(lab: Lab, tmp_path: Path) -> None:
    (lab.base / "r1" / "j").write_text("a file where the job's folder should be")
    with pytest.raises(RunnerRefused, match="cannot be written"):
        lab.launch("j", f"touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()
    assert lab.query("echo still here").out == b"still here\n"


@needs_root
@needs_sudo
def test_another_user(lab: Lab) -> None:
    who = lab.query("id -un; pwd; echo $A; head -c 3 /dev/stdin", user="nobody",
                    exports="export A='b c'\n")
    assert who.out.splitlines()[0::2] == [b"nobody", b"b c"]
    reply = lab.launch("j", "id -un; echo $PW; cat; exit 4", user="nobody",
                       exports="export PW='se cret-1'\n")
    assert reply == Reply("exit", "4", b"nobody\nse cret-1\n", reply.err)
    assert lab.launch("k", "sleep 60 & sleep 60", user="nobody", limit=1).word == "124.timedout"
    for name, script in (("124", "exit 124"), ("137", "kill -KILL $$"), ("143", "exit 143")):
        assert lab.launch(f"k{name}", script, user="nobody", limit=600).word == name
    upload = lab.base / "r1" / "up" / "m^1"
    upload.write_bytes(b"in\0put")
    assert lab.launch("m", "cat", user="nobody", source=str(upload)).out == b"in\0put"


FAKE_SUDO = """#!/bin/sh
# As sudo(8) with a password: -n refuses, -S reads one line, byte by byte, and -k forgets.
ask=
while :; do
  case $1 in
    -k|--prompt=) shift ;;
    -n) echo "sudo: a password is required" >&2; exit 1 ;;
    -S) ask=1; shift ;;
    -u) shift 2 ;;
    --) shift; break ;;
  esac
done
[ "$ask" ] || exit 1
IFS= read -r password
[ "$password" = 'pass word-1\\n' ] || { echo "sudo: 1 incorrect password attempt" >&2; exit 1; }
exec "$@"
"""


def test_a_sudo_password_goes_through_standard_input_alone(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sudo").write_text(FAKE_SUDO)
    (tools / "sudo").chmod(0o755)
    lab = Lab("dash", tmp_path / "spool", env={
        "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path),
    })
    word = "pass word-1\\n"
    spy = ("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c 'pass word[-]1'; "
           "cat; echo $A")
    upload = lab.base / "r1" / "up" / "j^1"
    upload.write_bytes(b"in\0put\n")
    reply = lab.launch("j", spy, user="other", password=word, source=str(upload),
                       exports="export A='b c'\n", limit=20)
    assert reply == Reply("exit", "0", b"0\nin\0put\nb c\n")
    assert lab.query(spy, user="other", password=word).out == b"0\n\n"
    assert b"incorrect" in lab.launch("k", "true", user="other", password="wrong").err
    assert b"required" in lab.launch("l", "true", user="other").err
    spooled = [p for p in lab.base.rglob("*") if p.is_file()]
    assert not [p for p in spooled if b"pass word" in p.read_bytes().replace(b"pass word[-]1", b"")]
    lab.close()


@pytest.mark.parametrize("shell", [name for name in SHELLS if Path(SHELLS[name][0]).exists()])
def test_sessions_that_are_the_first_at_the_same_moment_agree(shell: str, tmp_path: Path) -> None:
    def marker(_: int) -> str:
        at = Lab(shell, tmp_path / "spool")
        try:
            return at.here.mark(10)
        finally:
            at.close()

    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(marker, range(6)))
    assert len(found) == 1
    assert found.pop() == (tmp_path / "spool" / "r1" / "marker").read_text().strip()


def test_a_marker_that_a_power_cut_has_left_empty_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "spool" / "r1" / "marker"
    file.parent.mkdir(parents=True)
    file.touch()
    first, second = Lab("dash", tmp_path / "spool"), Lab("dash", tmp_path / "spool")
    assert first.here.mark(10) == second.here.mark(10) == file.read_text().strip() != ""
    first.close()
    second.close()


def test_half_of_the_program_does_nothing(tmp_path: Path) -> None:
    whole = program() + start_line("n" * 32, str(tmp_path / "spool"), "r1", "/bin/sh")
    for cut in [*range(0, len(whole) - 2, 997), *range(len(whole) - 20, len(whole) - 1)]:
        done = subprocess.run(
            ["/bin/sh"], input=whole[:cut].encode(), capture_output=True, check=False, timeout=10
        )
        assert done.stdout == b""
    assert not (tmp_path / "spool").exists()


def test_noise_before_the_runner_is_skipped(tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.write_text("#!/bin/sh\nprintf 'Welcome!\\nnot a line end'\nexec /bin/sh\n")
    noisy.chmod(0o755)
    session = Session(ProcessWire([str(noisy)]), run="r1", base=str(tmp_path / "spool"))
    assert session.mark(10)
    session.close()


def test_a_shell_that_is_none_is_noticed() -> None:
    with pytest.raises(SessionLost):
        Session(ProcessWire(["/bin/cat", "/dev/null"]), run="r1", timeout=5)
    with pytest.raises(SessionLost, match="no answer within"):
        Session(ProcessWire(["/bin/sleep", "30"]), run="r1", timeout=0.3)


def test_a_flock_without_waiting_is_enough(tmp_path: Path) -> None:
    """busybox's flock knows no -w; its other tools are used here too."""
    busybox, flock = shutil.which("busybox"), shutil.which("flock")
    if busybox is None or flock is None:
        pytest.skip("busybox or flock is not installed")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        tools.joinpath(name).symlink_to(busybox)
    tools.joinpath("flock").write_text(
        f'#!/bin/sh\ncase "$*" in *-w*|--version) exit 1 ;; esac\nexec {flock} "$@"\n'
    )
    tools.joinpath("flock").chmod(0o755)
    lab = Lab("busybox", tmp_path / "spool", env={"PATH": str(tools), "HOME": str(tmp_path)})
    assert lab.here.hello.missing == ()
    assert lab.launch("j", "sleep 1; echo late").out == b"late\n"
    assert lab.launch("k", "sleep 30", wait=1).status == "running"
    assert lab.launch("l", "sleep 30 & sleep 30", limit=1).word == "124.timedout"
    lab.here.request(kill_request(0, "k", "h", "", ""), 20)
    lab.close()


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed")
def test_a_limit_for_another_user_where_timeout_is_of_busybox(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    tools.joinpath("timeout").symlink_to(shutil.which("busybox") or "")
    tools.joinpath("sudo").write_text("#!/bin/sh\n# sudo -n -u USER [--] COMMAND\nshift 3\n"
                                      '[ "$1" != -- ] || shift\nexec "$@"\n')
    tools.joinpath("sudo").chmod(0o755)
    lab = Lab("dash", tmp_path / "spool", env={
        "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    assert lab.launch("j", "exit 143", user="nobody", limit=600).word == "143"
    assert lab.launch("k", "sleep 30", user="nobody", limit=1).word == "124.timedout"
    lab.close()


def test_missing_tools_are_named(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("mkdir", "sync", "mv", "rm", "id"):
        tools.joinpath(name).symlink_to(shutil.which(name) or "/bin/" + name)
    lab = Lab("dash", tmp_path / "spool", env={"PATH": str(tools), "HOME": str(tmp_path)})
    assert {"flock", "setsid"} <= set(lab.here.hello.missing)
    lab.close()




def test_a_path_of_any_letters(tmp_path: Path) -> None:
    """Lengths are of bytes: a folder's name counts more of them than letters."""
    lab = Lab("dash", tmp_path / "déménagement ü")
    assert lab.here.hello.root == str(tmp_path / "déménagement ü" / "r1")
    assert lab.launch("j", "echo said").out == b"said\n"
    lab.close()


@pytest.mark.parametrize("shell", [name for name in SHELLS if Path(SHELLS[name][0]).exists()])
def test_commands_have_the_umask_of_the_login(shell: str, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        lab = Lab(shell, tmp_path / "spool")
    finally:
        os.umask(before)
    assert lab.query("umask").out.strip().lstrip(b"0") == b"27"
    assert lab.launch("j", "umask").out.strip().lstrip(b"0") == b"27"
    lab.close()
