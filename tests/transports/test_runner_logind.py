"""Hosts that end everything a login has started when its connection ends (logind.conf(5))."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runbook.errors import Errored
from runbook.transports.ssh.link import check_logout
from runbook.transports.ssh.protocol import Hello, program
from tests.transports.test_runner import SHELLS

MAIN = "etc/systemd/logind.conf"
VENDOR = "usr/lib/systemd/logind.conf"
SNIPPET = "etc/systemd/logind.conf.d/50-site.conf"
SCOPE = "0::/user.slice/user-1000.slice/session-12.scope\n"


def asked(
    root: Path, files: dict[str, str], *, user: str = "deploy", cgroup: str = SCOPE,
    shell: str = "dash", running: bool = True,
) -> str:
    """The file that is to blame, "" where nobody is."""
    if running:
        (root / "run/systemd/sessions").mkdir(parents=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "cgroup").write_text(cgroup)
    script = f"{program()}\nr_logind '{root}' '{root}/cgroup' {user}; printf '%s' \"$R_LOGOUT\"\n"
    done = subprocess.run(
        [*SHELLS[shell], "-c", script], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout


@pytest.mark.parametrize("shell", list(SHELLS))
@pytest.mark.parametrize(("files", "to_blame"), [
    ({}, ""),
    ({MAIN: "[Login]\n#KillUserProcesses=no\n"}, ""),
    ({MAIN: "[Login]\n#KillUserProcesses=yes\n"}, MAIN),
    ({MAIN: "[Login]\n#KillUserProcesses=yes\nKillUserProcesses=no\n"}, ""),
    ({MAIN: "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes"}, MAIN),
    ({VENDOR: "[Login]\n#KillUserProcesses=yes\n"}, VENDOR),
    ({MAIN: "[Login]\n#KillUserProcesses=no\n", SNIPPET: "[Login]\nKillUserProcesses=true\n"},
     SNIPPET),
    ({MAIN: "[Login]\nKillUserProcesses=yes\n", SNIPPET: "[Login]\nKillUserProcesses=off\n"}, ""),
    ({MAIN: "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=root deploy\n"}, ""),
    ({MAIN: "[Login]\nKillUserProcesses=yes\nKillOnlyUsers=guest\n"}, ""),
    ({MAIN: "[Login]\nKillUserProcesses=yes\nKillOnlyUsers=guest deploy\n"}, MAIN),
])
def test_the_configuration_is_read_as_logind_does(
    shell: str, files: dict[str, str], to_blame: str, tmp_path: Path
) -> None:
    if not Path(SHELLS[shell][0]).exists():
        pytest.skip(f"{shell} is not installed")
    assert asked(tmp_path, files, shell=shell) == (f"/{to_blame}" if to_blame else "")


def test_who_is_spared(tmp_path: Path) -> None:
    """root, where nobody else is named; what is in no session; a host without logind."""
    kills = {MAIN: "[Login]\nKillUserProcesses=yes\n"}
    assert asked(tmp_path / "a", kills) != ""
    assert asked(tmp_path / "b", kills, user="root") == ""
    assert asked(tmp_path / "c", kills, cgroup="0::/system.slice/ssh.service\n") == ""
    (tmp_path / "d").mkdir()
    assert asked(tmp_path / "d", kills, running=False) == ""


def test_such_a_host_is_refused_with_the_remedy() -> None:
    hello = Hello("m", "/r", "b", 0, (), "/etc/systemd/logind.conf")
    with pytest.raises(Errored, match=r"outlive.*nothing was changed") as told:
        check_logout("web1", hello)
    assert "KillExcludeUsers" in (told.value.hint or "")
    check_logout("web1", Hello("m", "/r", "b", 0, (), ""))
