"""SSH as it is met in the field: odd shells, odd servers, odd ways to log in."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook.errors import Errored
from runbook.model.actions import FileContent, PutFile, RunCommand
from runbook.model.inventory import Host, Inventory
from runbook.transports.ssh.pool import SshPool
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import find, marks
from tests.lab.network import inside
from tests.lab.processes import wait_for
from tests.transports.ssh_lab import key, keygen, make_pool, silent

pytestmark = marks

HOST = "east-web"
ADDRESS = MACHINES[HOST]
SHELLS = {
    "dash": "/bin/dash", "bash": "/bin/bash", "zsh": "/bin/zsh", "fish": "/usr/bin/fish",
    "csh": "/bin/csh", "ksh": "/bin/ksh", "ash": "/srv/ash",
}
PORTS = {"one": 2201, "few": 2202, "drop": 2203, "cert": 2204, "rekey": 2205}
ODD = "it's \"odd\" \\ $HOME `x` !! * ü \t{a,b} [c] ~ # %"

Pools = Callable[..., SshPool]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.open() as opened:
        machine = opened[HOST]
        machine.run("ln -s /bin/busybox /srv/ash; echo /srv/ash >>/etc/shells")
        for name, shell in SHELLS.items():
            machine.run(
                f"useradd -m -p '*' -s {shell} {name} && "
                f"install -d -m 700 -o {name} ~{name}/.ssh && "
                f"install -m 600 -o {name} /root/.ssh/authorized_keys ~{name}/.ssh/"
            )
        machine.run("echo 'echo noise of a login; printf \"\\\\033[1mmore\"' >>~bash/.bashrc; "
                    "echo 'echo noise of csh' >>~csh/.cshrc; "
                    "echo 'echo noise of fish' | install -D -o fish /dev/stdin "
                    "~fish/.config/fish/config.fish; echo 'Authorized only' >/etc/ssh/banner")
        base = "grep -v '^Port\\|^PidFile' /etc/ssh/sshd_config"
        for name, lines in {
            "one": "MaxSessions 1\nBanner /etc/ssh/banner",
            "few": "MaxStartups 2:100:2\nLoginGraceTime 20",
            "cert": "TrustedUserCAKeys /etc/ssh/user_ca.pub\nAuthorizedKeysFile none\n"
                    "HostCertificate /etc/ssh/lab_host_key-cert.pub",
            "rekey": "RekeyLimit 512K",
        }.items():
            machine.run(
                f"({base}; printf 'Port {PORTS[name]}\\nPidFile none\\n{_escaped(lines)}\\n') "
                f">/etc/ssh/sshd_{name}"
            )
        place = opened.folder / "ca"
        place.mkdir()
        for authority in ("user_ca", "host_ca"):
            keygen(place / authority)
        sign = ["ssh-keygen", "-q", "-s"]
        keygen(place / "certified")
        subprocess.run([*sign, str(place / "user_ca"), "-I", "mover", "-n", "root",
                        str(place / "certified.pub")], check=True)
        host_key = place / "host.pub"
        host_key.write_text(machine.run("ssh-keygen -y -f /etc/ssh/lab_host_key").stdout)
        subprocess.run([*sign, str(place / "host_ca"), "-h", "-I", HOST, "-n",
                        f"{HOST},{ADDRESS}", str(host_key)], check=True)
        for name, file in (("user_ca.pub", "user_ca.pub"),
                           ("lab_host_key-cert.pub", "host-cert.pub")):
            machine.run(f"printf %s '{(place / file).read_text()}' >/etc/ssh/{name}")
        for name in ("one", "few", "cert", "rekey"):
            machine.run(f"setsid /usr/sbin/sshd -D -f /etc/ssh/sshd_{name} </dev/null "
                        ">/dev/null 2>&1 &")
        if find("dropbear"):
            # OpenSSH's is built in, here; Dropbear would use this program.
            machine.run("rm -f /usr/lib/sftp-server /usr/lib/openssh/sftp-server")
            machine.run("dropbearkey -t ed25519 -f /srv/dropbear_key >/dev/null 2>&1; cd /srv && "
                        f"setsid dropbear -F -r /srv/dropbear_key -p {PORTS['drop']} </dev/null "
                        ">/var/log/dropbear.log 2>&1 &")
        wait_for("the servers", lambda: set(PORTS.values()) - {PORTS["drop"]}
                 <= _ports(opened))
        yield opened


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n")


def _ports(lab: Lab) -> set[int]:
    from tests.lab.processes import listening

    return listening(lab[HOST].init)


@pytest.fixture
def pools(lab: Lab, tmp_path: Path) -> Iterator[Pools]:
    """Makes controllers at the control desk for hosts given as ``name={…}``."""
    config = tmp_path / "ssh_config"
    config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
    made: list[SshPool] = []

    def make(
        known: str | None = None, identity: Path | None = None,
        secrets: dict[str, str] | None = None, **hosts: dict[str, object],
    ) -> SshPool:
        file = tmp_path / f"known-{len(made)}"
        lines = lab.known_hosts.read_text()
        own = next(line for line in lines.splitlines() if line.startswith(HOST)).split(" ", 1)[1]
        lines += "".join(f"[{ADDRESS}]:{port} {own}\n" for port in PORTS.values())
        file.write_text(lines if known is None else known)
        login = str(identity or lab.login_key)
        inventory = Inventory(
            hosts=tuple(
                Host.model_validate({"name": name, "address": ADDRESS, "user": "root",
                                     "identity": login, **more})
                for name, more in hosts.items()
            ),
            known_hosts=(str(file),), ssh_config=str(config),
        )
        made.append(make_pool(inventory, tmp_path / f"state-{len(made)}", secrets=secrets,
                              run=f"{tmp_path.name}-{len(made)}"))
        return made[-1]

    with inside(lab.network.namespace("control")):
        yield make
        for pool in made:
            pool.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shells(lab: Lab, pools: Pools, shell: str) -> None:
    """Whatever the login shell is and says: commands, output, files and environments are right."""
    if shell != "ash" and not Path(SHELLS[shell]).exists():
        pytest.skip(f"{SHELLS[shell]} is not installed")
    pool = pools(web={"user": shell})
    reads = pool.host_reads("web")
    assert reads.query(f"printf %s {_quoted(ODD)}").stdout == ODD
    assert reads.query("printf %s \"$X\"", env={"X": ODD}).stdout == ODD
    assert reads.query("exit 3").exit_code == 3
    done = pool.perform(
        RunCommand(host="web", script="echo out; echo err >&2; exit 7", ok_codes=(7,)),
        key("run@web"), silent,
    )
    assert (done.data["stdout"], done.data["stderr"]) == ("out\n", "err\n")
    path = f"/home/{shell}/a file"
    put = PutFile(host="web", path=path, content=FileContent(text=ODD + "\n"), mode=0o640)
    assert pool.perform(put, key("put@web"), silent).ok
    found = reads.file(path)
    assert (found.mode, found.owner) == (0o640, shell)
    assert found.sha256 == hashlib.sha256((ODD + "\n").encode()).hexdigest()
    pool.tidy()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.skipif(find("dropbear") is None, reason="dropbear is not installed")
def test_dropbear(lab: Lab, pools: Pools) -> None:
    """It has host keys of its own, and no SFTP where none is installed."""
    wait_for("dropbear", lambda: PORTS["drop"] in _ports(lab))
    scanned = lab.run("control", "ssh-keyscan", "-p", str(PORTS["drop"]), ADDRESS).stdout
    pool = pools(known=scanned, web={"port": PORTS["drop"]})
    assert pool.host_reads("web").query("echo hello").stdout == "hello\n"
    text = ODD * 20_000
    put = PutFile(host="web", path="/srv/big", content=FileContent(text=text))
    assert pool.perform(put, key("put@web"), silent).ok
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert pool.host_reads("web").file("/srv/big").sha256 == digest
    done = pool.perform(RunCommand(host="web", script="exit 0"), key("run@web"), silent)
    assert done.ok


def test_one_session_is_enough(lab: Lab, pools: Pools) -> None:
    pool = pools(web={"port": PORTS["one"]})
    reads = pool.host_reads("web")
    put = PutFile(host="web", path="/srv/one", content=FileContent(text="x" * 100_000))
    assert pool.perform(put, key("put@web"), silent).ok
    assert reads.file("/srv/one").size == 100_000
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: reads.query(f"echo {n}").stdout, range(8)))
    assert answers == [f"{n}\n" for n in range(8)]


def test_a_throttled_server_is_asked_again(lab: Lab, pools: Pools) -> None:
    """MaxStartups drops connections that have not logged in yet: no fault of ours or theirs."""
    names = {f"web{n}": {"port": PORTS["few"]} for n in range(8)}
    pool = pools(**names)
    pool.prepare(tuple(names), {})
    assert all(pool.host_reads(name).query("true").exit_code == 0 for name in names)


def test_a_slow_login_is_waited_for_and_paid_once(lab: Lab, pools: Pools) -> None:
    """Directory services that time out, shells that ask the network: seconds before a prompt."""
    lab[HOST].run("sed -i '1i date >>~/logins; sleep 4' ~bash/.bashrc")
    try:
        pool = pools(web={"user": "bash"})
        pool.prepare(("web",), {})
        reads = pool.host_reads("web")
        assert [reads.query(f"echo {n}").stdout for n in range(5)] == [f"{n}\n" for n in range(5)]
        done = pool.perform(RunCommand(host="web", script="exit 0"), key("run@web"), silent)
        assert done.ok
        assert len(lab[HOST].run("cat ~bash/logins").stdout.splitlines()) == 1
    finally:
        lab[HOST].run("sed -i 1d ~bash/.bashrc; rm -f ~bash/logins")


def test_certificates(lab: Lab, pools: Pools) -> None:
    """A user's certificate of a trusted authority opens; the key alone does not."""
    place = lab.folder / "ca"
    pool = pools(identity=place / "certified", web={"port": PORTS["cert"]})
    assert pool.host_reads("web").query("id -un").stdout == "root\n"
    with pytest.raises(Errored, match="login refused"):
        pools(web={"port": PORTS["cert"]}).host_reads("web").query("true")


def test_an_agent_holds_the_key(lab: Lab, pools: Pools, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")],
                             stdout=subprocess.DEVNULL)
    try:
        wait_for("the agent", (tmp_path / "agent").exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        pool = pools(web={"identity": None})
        with pytest.raises(Errored, match="login refused"):
            pool.host_reads("web").query("true")
        subprocess.run(["ssh-add", "-q", str(lab.login_key)], check=True)
        assert pool.host_reads("web").query("id -un").stdout == "root\n"
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(5)


def test_who_may_not_log_in_is_told_what_to_do(lab: Lab, pools: Pools, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    for pool in (pools(identity=other, web={}), pools(web={"user": "nobody-here"})):
        with pytest.raises(Errored, match="login refused") as fault:
            pool.host_reads("web").query("true")
        assert "nothing was changed there" in fault.value.message and fault.value.hint


def test_a_changed_host_key_shows_both_fingerprints(lab: Lab, pools: Pools, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
    with pytest.raises(Errored) as fault:
        pools(known=f"{ADDRESS} {other}", web={}).host_reads("web").query("touch /srv/touched")
    told = fault.value.message + fault.value.hint
    assert told.count("SHA256:") == 2
    assert lab[HOST].run("test -e /srv/touched", check=False).returncode == 1


@pytest.mark.parametrize("rule", ["", "Defaults requiretty\n"])
def test_sudo(lab: Lab, pools: Pools, rule: str) -> None:
    machine = lab[HOST]
    machine.run(f"printf '{_escaped(rule)}bash ALL=(ALL) NOPASSWD: ALL\\ndash ALL=(ALL) ALL\\n' "
                ">/etc/sudoers.d/lab; chmod 440 /etc/sudoers.d/lab; echo dash:sesame-77 | chpasswd")
    secrets = {"SUDO": "sesame-77", "WRONG": "sesame-78"}
    pool = pools(secrets=secrets, free={"user": "bash"}, asked={"user": "dash", "become": "SUDO"},
                 wrong={"user": "dash", "become": "WRONG"}, none={"user": "zsh"})
    try:
        if rule:
            # There is no terminal, on purpose: it would echo, and mix both outputs.
            with pytest.raises(Errored, match="cannot run commands as root") as fault:
                pool.prepare(("free",), {"free": ("root",)})
            assert "sudoers" in fault.value.hint
            return
        pool.prepare(("free", "asked"), {"free": ("root",), "asked": ("root",)})
        job = RunCommand(host="asked", script="id -un; ps -ef", run_as="root")
        done = pool.perform(job, key("sudo@asked"), silent)
        assert done.data["stdout"].startswith("root\n") and "sesame" not in done.data["stdout"]
        for name in ("wrong", "none"):
            with pytest.raises(Errored, match="cannot run commands as root"):
                pool.prepare((name,), {name: ("root",)})
    finally:
        machine.run("rm /etc/sudoers.d/lab")


@pytest.mark.slow
def test_two_hundred_megabytes(lab: Lab, pools: Pools) -> None:
    """On disk whole, memory bounded, time linear in the size."""
    pool = pools(web={})
    pool.prepare(("web",), {})

    def take(megabytes: int) -> float:
        script = f"head -c {megabytes}000000 /dev/zero | tr '\\0' x"
        start = time.monotonic()
        done = pool.perform(
            RunCommand(host="web", script=script), key(f"big{megabytes}@web"), silent
        )
        assert Path(done.data["stdout_path"]).stat().st_size == megabytes * 1_000_000
        return time.monotonic() - start

    small = take(40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = take(200)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"40 MB {small:.1f} s, 200 MB {large:.1f} s, {grown / 1024:.0f} MiB more")
    assert grown < 64 * 1024


def test_every_byte_of_both_outputs(lab: Lab, pools: Pools) -> None:
    """Binary output keeps every byte, whichever of the two grows first."""
    pool = pools(web={})
    script = ("python3 -c \"import sys; d = bytes(range(256)) * 16384; "
              "sys.stdout.buffer.write(d); sys.stderr.buffer.write(d[::-1])\"")
    done = pool.perform(RunCommand(host="web", script=script), key("bytes@web"), silent)
    data = bytes(range(256)) * 16384
    assert Path(done.data["stdout_path"]).read_bytes() == data
    assert Path(done.data["stderr_path"]).read_bytes() == data[::-1]


def test_keys_are_renewed_in_a_long_session(lab: Lab, pools: Pools) -> None:
    pool = pools(web={"port": PORTS["rekey"]})
    text = os.urandom(2_000_000).hex()
    put = PutFile(host="web", path="/srv/rekeyed", content=FileContent(text=text))
    assert pool.perform(put, key("put@web"), silent).ok
    done = pool.perform(RunCommand(host="web", script="cat /srv/rekeyed"), key("cat@web"), silent)
    assert Path(done.data["stdout_path"]).read_text() == text
    assert pool.host_reads("web").query("echo still here").stdout == "still here\n"


def test_a_login_that_may_do_one_thing_only_is_refused_clearly(lab: Lab, pools: Pools) -> None:
    machine = lab[HOST]
    keys = "~ksh/.ssh/authorized_keys"
    machine.run(f"sed -i 's/^/command=\"echo only this\" /' {keys}")
    try:
        with pytest.raises(Errored, match="no shell answers over SSH") as fault:
            pools(web={"user": "ksh"}).host_reads("web").query("true")
        assert "ForceCommand" in fault.value.hint
    finally:
        machine.run(f"sed -i 's/^command=\"echo only this\" //' {keys}")
