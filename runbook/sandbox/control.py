"""The world's control line: JSON lines over a unix socket in the world's folder.

A request is ``{"op": …}``, an answer an object; ``{"error": text}`` says what went wrong. The
socket is reached through a descriptor of its folder, because a path may be longer than the 107
bytes that a socket address holds (unix(7)).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from runbook.errors import Errored

NAME = "control.sock"
_LONGEST_LINE = 64 * 1024 * 1024

Handler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


class ControlServer:
    """Answers requests inside the world process."""

    def __init__(self, directory: Path, operations: Mapping[str, Handler]) -> None:
        self._directory = directory
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            link = socket.socket(socket.AF_UNIX)
            link.bind(f"/proc/self/fd/{folder}/{NAME}")
        finally:
            os.close(folder)
        (self._directory / NAME).chmod(0o600)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=link, limit=_LONGEST_LINE
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            return  # who asked is gone
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = self._operations[request["op"]]
        except (ValueError, KeyError, TypeError):
            return {"error": "not a request this world knows"}
        try:
            return await operation(request)
        except (OSError, LookupError, ValueError) as fault:
            return {"error": f"{type(fault).__name__}: {fault}"}


def call(directory: Path, request: Mapping[str, Any], *, timeout: float = 60.0) -> dict[str, Any]:
    """Ask the world in ``directory``. Raises Errored when it does not answer or says no."""
    try:
        folder = os.open(directory, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(timeout)
                link.connect(f"/proc/self/fd/{folder}/{NAME}")
                link.sendall(json.dumps(dict(request)).encode() + b"\n")
                with link.makefile("rb") as stream:
                    line = stream.readline()
        finally:
            os.close(folder)
    except OSError as fault:
        raise Errored(
            f"the sandbox world does not answer: {fault}", hint="its process may have ended"
        ) from fault
    if not line:
        raise Errored("the sandbox world closed the control line")
    answer: dict[str, Any] = json.loads(line)
    if answer.get("error"):
        raise Errored(f"the sandbox world refused {request.get('op')}: {answer['error']}")
    return answer
