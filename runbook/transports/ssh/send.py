"""Sending a file where the server has no SFTP: into ``cat`` over a channel of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

import paramiko

_BLOCK = 256 * 1024

# End of input is not completeness: a connection that is cut looks the same. So the size is told
# beforehand, and only what has it gets its name.
_RECEIVE = (
    "umask 077; cat >{part} && [ \"$(($(wc -c <{part})))\" = {size} ] && mv -f {part} {target} "
    "&& echo sent"
)


def send_file(channel: paramiko.Channel, target: str, source: Path | bytes) -> None:
    """Send a file, or bytes, to ``target`` with mode 0600, under that name only when whole.

    Raises SSHException where the other end did not take all of it; OSError, EOFError.
    """
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    script = _RECEIVE.format(
        part=shlex.quote(f"{target}.part"), target=shlex.quote(target), size=size
    )
    channel.exec_command(f"exec /bin/sh -c {shlex.quote(script)}")
    if isinstance(source, Path):
        with source.open("rb") as file:
            while block := file.read(_BLOCK):
                channel.sendall(block)
    else:
        channel.sendall(source)
    channel.shutdown_write()
    said = b""
    while data := channel.recv(_BLOCK):
        said = (said + data)[-4096:]
    # A login shell may have said something first.
    if not said.endswith(b"sent\n"):
        raise paramiko.SSHException(f"the other end did not take all of {target}")
