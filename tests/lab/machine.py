"""A lab host: its disk, its life as a tree of namespaces, and commands inside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.network import Network
from tests.lab.processes import ENVIRONMENT, children, kill, listening, run, wait_for

PARTS = Path(__file__).with_name("host")
DISK_SIZE = "512m"
_OURS = ("init", "rc", "reaper.py", "sshd")
_POWER = ("reboot", "halt", "poweroff", "shutdown")
# A restart (SIGHUP, reboot(2)) brings the host back; any other end leaves it off.
_SUPERVISE = """\
while :; do
  nsenter "--net=/run/netns/$1" unshare -m -u -i -p -f sh "$2" "$3" "$4" </dev/null >>"$5" 2>&1
  [ $? = 129 ] || exit 0
done
"""


@dataclass
class Machine:
    """One host. ``ports`` are those that are open once it is up."""

    name: str
    address: str
    folder: Path
    network: Network
    ports: frozenset[int] = frozenset({22})
    disk_size: str = DISK_SIZE
    supervisor: subprocess.Popen[bytes] | None = None
    attached: bool = False

    @property
    def disk(self) -> Path:
        """The host's disk as seen from outside; what is on it survives a power cut."""
        return self.folder / "disk" / "upper"

    @property
    def log(self) -> str:
        """What its boot said, for messages of failed tests."""
        files = [self.folder / "console", *sorted((self.disk / "var/log").glob("*.log"))]
        return "\n".join(f"== {f}\n{f.read_text(errors='replace')}" for f in files if f.exists())

    def install(self, files: Mapping[str, str]) -> None:
        """Make its disk, with these files (absolute path → text; executable where it begins
        with ``#!``). The root's and the users' homes of the machine below are hidden."""
        self.folder.mkdir()
        place = self.folder / "disk"
        place.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"mode=755,size={self.disk_size}",
            "runbook-lab", str(place))
        for part in ("upper", "work"):
            (place / part).mkdir()
        (self.folder / "root").mkdir()
        for home, mode in (("root", 0o700), ("home", 0o755)):
            (self.disk / home).mkdir(mode=mode)
            # Nothing of the directory below shows through (overlayfs, kernel documentation).
            os.setxattr(self.disk / home, "trusted.overlay.opaque", b"y")
        for part in ("boot.d", "units", "enabled"):
            (self.disk / "etc/runbook-lab" / part).mkdir(parents=True)
        (self.disk / "var/log").mkdir(parents=True)
        os.setxattr(self.disk / "var/log", "trusted.overlay.opaque", b"y")
        for part in _OURS:
            self.write(f"/etc/runbook-lab/{part}", (PARTS / part).read_text())
        # Twice, so that neither PATH nor an absolute path leads to the real ones.
        for name in _POWER:
            for where in ("/usr/local/sbin", "/usr/sbin"):
                self.write(f"{where}/{name}", (PARTS / "reboot.py").read_text())
            if not Path("/sbin").is_symlink():
                self.write(f"/sbin/{name}", (PARTS / "reboot.py").read_text())
        self.write("/usr/local/bin/systemctl", (PARTS / "systemctl").read_text())
        self.write("/etc/runbook-lab/outside", f"{Path('/proc/self/ns/pid').readlink()}\n")
        for path, text in files.items():
            self.write(path, text)

    def write(self, path: str, text: str) -> None:
        """Put a file on the disk, from outside: only while the host is off."""
        target = self.disk / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        secret = " PRIVATE KEY-" in text
        target.chmod(0o755 if text.startswith("#!") else 0o600 if secret else 0o644)

    # -- power ---------------------------------------------------------------------------------

    @property
    def init(self) -> int:
        """Its process 1 as seen from outside; 0 while it is off."""
        if self.supervisor is None:
            return 0
        # supervisor → unshare(1) → process 1
        for outer in children(self.supervisor.pid):
            for inner in children(outer):
                return inner
        return 0

    @property
    def up(self) -> bool:
        pid = self.init
        return bool(pid) and self.ports <= listening(pid)

    def start(self) -> None:
        """Power on; returns at once. See :meth:`wait_up`."""
        assert self.supervisor is None, f"{self.name} is on already"
        if not self.attached:
            self.network.attach(self.name, self.address)
            self.attached = True
        self.supervisor = subprocess.Popen(
            ["sh", "-c", _SUPERVISE, "runbook-lab", self.network.namespace(self.name),
             str(PARTS / "boot.sh"), self.name, str(self.folder), str(self.folder / "console")],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def wait_up(self, patience: float = 20.0) -> None:
        try:
            wait_for(f"{self.name} is up", lambda: self.up, patience)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{self.log}") from fault

    def stop(self) -> None:
        """The power goes: no process gets to say a word, and no packet leaves."""
        supervisor, self.supervisor = self.supervisor, None
        if supervisor is None:
            return
        self.network.link(self.name, up=False)
        # From the outside in: the supervisor first, or it might start the host anew.
        middle = children(supervisor.pid)
        inner = [pid for outer in middle for pid in children(outer)]
        kill([supervisor.pid])
        supervisor.wait()
        kill(inner)
        kill(middle)
        self.network.detach(self.name)
        self.attached = False

    # -- inside --------------------------------------------------------------------------------

    def enter(self) -> list[str]:
        """The beginning of a command line that runs the rest inside the host."""
        pid = self.init
        assert pid, f"{self.name} is off"
        return ["nsenter", "-t", str(pid), "-a", "-r", "-w"]

    def run(
        self, script: str, *, timeout: float = 30, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A shell script as root inside the host. Raises AssertionError when it must not fail."""
        done = subprocess.run(
            [*self.enter(), "env", "-i", *(f"{k}={v}" for k, v in ENVIRONMENT.items()),
             "sh", "-c", f"cd; {script}"],
            capture_output=True, text=True, timeout=timeout, check=False,
        )
        if check:
            assert done.returncode == 0, (self.name, script, done.stdout, done.stderr)
        return done

    def fill_disk(self, leave: int = 0) -> None:
        """Use up the disk, but for so many bytes."""
        place = self.folder / "disk"
        free = shutil.disk_usage(place).free
        with (place / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(1, free - leave))

    def free_disk(self) -> None:
        (self.folder / "disk" / "ballast").unlink()
