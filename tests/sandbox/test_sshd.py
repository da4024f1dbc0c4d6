from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import asyncssh
import pytest

from runbook.sandbox.handle import WorldHandle

T = TypeVar("T")
openssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client here")


def connect(world: WorldHandle, host: str = "east-web") -> asyncssh.connection._ClientConnection:  # type: ignore[name-defined]
    end = world.endpoints.ssh[host]
    return asyncssh.connect(
        end.address, end.port, username=end.user, client_keys=[end.identity],
        known_hosts=end.known_hosts, agent_path=None, config=[],
    )


def within(
    world: WorldHandle,
    work: Callable[[asyncssh.SSHClientConnection], Awaitable[T]],
    host: str = "east-web",
) -> T:
    """Do something over one connection; 20 seconds at the most."""

    async def main() -> T:
        async with asyncio.timeout(20), connect(world, host) as link:
            return await work(link)

    return asyncio.run(main())


def test_a_command_runs_in_the_hosts_folder(world: WorldHandle) -> None:
    said = within(world, lambda link: link.run("pwd; echo $HOME; ls shop; exit 7"))
    home, also_home, *names = str(said.stdout).split()
    assert home == also_home == str(world.directory / "hosts" / "east-web")
    assert "shop.py" in names
    assert said.exit_status == 7


def test_standard_error_and_input_are_kept_apart(world: WorldHandle) -> None:
    said = within(world, lambda link: link.run("cat; echo wrong >&2", input="given"))
    assert (said.stdout, said.stderr) == ("given", "wrong\n")


def test_binary_output_is_whole(world: WorldHandle) -> None:
    data = os.urandom(3_000_000)
    said = within(world, lambda link: link.run("cat", input=data, encoding=None))
    assert hashlib.sha256(bytes(said.stdout or b"")).digest() == hashlib.sha256(data).digest()


def test_no_output_of_fast_commands_is_lost(world: WorldHandle) -> None:
    async def work(link: asyncssh.SSHClientConnection) -> list[str]:
        runs = [link.run(f"echo {n}; echo e{n} >&2", check=True) for n in range(100)]
        return [f"{r.stdout}{r.stderr}" for r in await asyncio.gather(*runs)]

    assert within(world, work) == [f"{n}\ne{n}\n" for n in range(100)]


def test_one_long_lived_shell_answers_line_by_line(world: WorldHandle) -> None:
    async def work(link: asyncssh.SSHClientConnection) -> list[str]:
        async with link.create_process("exec sh") as shell:
            out = []
            for word in ("one", "two", "three"):
                shell.stdin.write(f"echo {word}\n")
                out.append((await shell.stdout.readline()).strip())
            shell.stdin.write_eof()
            assert (await shell.wait()).exit_status == 0
            return out

    assert within(world, work) == ["one", "two", "three"]


def test_a_signal_reaches_the_command(world: WorldHandle) -> None:
    async def work(link: asyncssh.SSHClientConnection) -> tuple[object, object]:
        process = await link.create_process("echo up; sleep 60; echo never")
        await process.stdout.readline()
        process.send_signal("TERM")
        done = await process.wait()
        return done.exit_status, done.exit_signal and done.exit_signal[0]

    assert within(world, work) == (-1, "TERM")


def test_a_wrong_key_is_refused(world: WorldHandle) -> None:
    async def main() -> None:
        end = world.endpoints.ssh["east-web"]
        async with asyncssh.connect(
            end.address, end.port, username=end.user, known_hosts=end.known_hosts,
            client_keys=[asyncssh.generate_private_key("ssh-ed25519")], agent_path=None, config=[],
        ):
            pass

    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(main())


def test_each_host_has_a_key_of_its_own(world: WorldHandle) -> None:
    lines = Path(world.endpoints.ssh["east-web"].known_hosts).read_text().splitlines()
    assert len(lines) == len({line.split()[-1] for line in lines}) == 3


def test_sftp_and_the_shell_mean_the_same_paths(world: WorldHandle) -> None:
    async def work(link: asyncssh.SSHClientConnection) -> tuple[str, str, bool]:
        async with link.start_sftp_client() as sftp:
            home = await sftp.realpath(".")
            async with sftp.open("by-sftp", "w") as file:
                await file.write("hello")
            async with sftp.open(f"{home}/by-sftp") as file:
                content = await file.read()
            outside = await sftp.exists("/etc/passwd")
            said = await link.run("pwd; cat by-sftp; rm by-sftp")
            assert said.stdout == f"{home}\nhello"
            return str(home), str(content), outside

    home, content, outside = within(world, work)
    assert home.endswith("/hosts/east-web")
    assert content == "hello"
    assert outside is False, "a path outside is one inside"


def test_forwarding_goes_through_the_worlds_names_and_table(world: WorldHandle) -> None:
    async def work(link: asyncssh.SSHClientConnection) -> bytes:
        reader, writer = await link.open_connection("shop.example", 80)
        writer.write(b"GET /health HTTP/1.0\r\n\r\n")
        return await reader.read()

    assert b'"site": "east"' in within(world, work, "west-probe")


@pytest.mark.parametrize("place", [("192.0.2.80", 80), ("127.0.0.1", 22), ("nosuch.example", 80)])
def test_forwarding_elsewhere_is_refused(world: WorldHandle, place: tuple[str, int]) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        within(world, lambda link: link.open_connection(*place))


def test_a_cut_drops_the_connection_and_leaves_the_command(world: WorldHandle) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            link = await connect(world)
            other = await connect(world, "west-web")
            process = await link.create_process(
                "setsid sh -c 'until [ -e go ]; do sleep 0.02; done; echo done > after' "
                ">/dev/null 2>&1 & echo up; sleep 60"
            )
            await process.stdout.readline()
            assert await asyncio.to_thread(world.cut, "east-web") == 1
            await link.wait_closed()
            assert (await process.wait()).exit_status is None, "unknown, not success"
            assert (await other.run("echo here")).stdout == "here\n"
            other.close()

    asyncio.run(main())
    said = world.run("east-web", "touch go; until [ -s after ]; do sleep 0.02; done; cat after")
    assert said.stdout == "done\n"
    world.run("east-web", "rm go after")


def options(world: WorldHandle, host: str = "east-web") -> list[str]:
    end = world.endpoints.ssh[host]
    return [
        "-F", "none", "-i", end.identity, "-o", f"UserKnownHostsFile={end.known_hosts}",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", f"User={end.user}",
        "-o", f"Port={end.port}", "-o", "IdentitiesOnly=yes",
    ]


@openssh
def test_openssh_logs_in(world: WorldHandle) -> None:
    said = subprocess.run(
        ["ssh", *options(world), "127.0.0.1", "cat shop.conf; echo wrong >&2; exit 3"],
        capture_output=True, text=True, timeout=20, check=False,
    )
    assert (said.returncode, said.stdout) == (3, "SITE=east\n")
    assert "wrong" in said.stderr


@openssh
@pytest.mark.parametrize("protocol", [[], ["-O"]])
def test_openssh_scp_copies_and_says_success(
    world: WorldHandle, tmp_path: Path, protocol: list[str]
) -> None:
    (tmp_path / "up").write_bytes(os.urandom(100_000))
    for source, dest in (("up", "127.0.0.1:moved"), ("127.0.0.1:moved", "down")):
        said = subprocess.run(
            ["scp", *protocol, *options(world), source, dest],
            capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False,
        )
        assert said.returncode == 0, said.stderr
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    world.run("east-web", "rm moved")


@openssh
@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync here")
def test_rsync_from_outside_works(world: WorldHandle, tmp_path: Path) -> None:
    said = subprocess.run(
        ["rsync", "-a", "-e", " ".join(["ssh", *options(world)]), "127.0.0.1:shop/", "got/"],
        capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False,
    )
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "got" / "static" / "style.css").exists()
