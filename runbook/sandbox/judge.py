"""The outside client of a world: customers who read and write all the time.

It is a process of its own (``python -m runbook.sandbox.judge``). Every request resolves the name
anew at the world's resolver and opens a new connection, as a stranger's would. It writes down
every attempt, and what it wrote down is judged against what the side in service holds afterwards.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import dns.exception
import dns.message
import dns.query

from runbook.errors import Errored, Refused, RunbookError
from runbook.model.endpoints import Endpoints
from runbook.sandbox.clock import WorldClock
from runbook.sandbox.config import TrafficConfig, load_config
from runbook.sandbox.handle import WorldHandle
from runbook.sandbox.judgement import Attempt, Judgement, judge
from runbook.sandbox.routes import addresses_in, is_address

_STOP_PATIENCE = 30.0


class Outsider:
    """Requests of one client, through a world's table."""

    def __init__(self, endpoints: Endpoints, timeout: float) -> None:
        self._endpoints = endpoints
        self._timeout = timeout

    def address(self, name: str, server: tuple[str, int] | None = None) -> str:
        """The first IPv4 address, from the world's resolver, or from ``server``.

        Raises OSError."""
        if is_address(name):
            return name
        host, port = server or _split(self._endpoints.resolver)
        question = dns.message.make_query(name, "A")
        try:
            answer = dns.query.udp(question, host, timeout=self._timeout, port=port)
        except dns.exception.DNSException as fault:
            raise OSError(f"{name}: {type(fault).__name__}") from fault
        return addresses_in(answer, name)[0]

    def send(
        self, method: str, url: SplitResult, address: str, body: str | None = None
    ) -> tuple[int, bytes]:
        """Status and content. Raises OSError or http.client.HTTPException."""
        try:
            host, port = self._endpoints.connect(address, url.port or 80)
        except Errored as fault:
            raise ConnectionRefusedError(fault.message) from fault
        link = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            headers = {"Host": url.netloc, "Connection": "close"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            link.request(method, path, body=body, headers=headers)
            response = link.getresponse()
            return response.status, response.read()
        finally:
            link.close()


class Traffic:
    """All clients of one judge; attempts go to ``records`` as JSON lines, each flushed."""

    def __init__(self, endpoints: Endpoints, config: TrafficConfig, records: Path) -> None:
        self._config = config
        self._outsider = Outsider(endpoints, config.timeout)
        self._clock = WorldClock(endpoints.clock)
        self._records = records.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def run(self, ended: threading.Event) -> None:
        """Send until ``ended`` is set or the longest duration is over."""
        self._ended = ended
        config = self._config
        workers = [
            threading.Thread(target=self._client, args=(number < config.writers,))
            for number in range(config.writers + config.readers)
        ]
        for worker in workers:
            worker.start()
        ended.wait(config.longest)
        ended.set()
        for worker in workers:
            worker.join()
        self._records.close()

    def _client(self, writes: bool) -> None:
        urls = [self._config.write] if writes else list(self._config.read)
        for url in itertools.cycle([one for one in urls if one]):
            if self._ended.wait(self._config.pause):
                return
            attempt = self._attempt(url, writes)
            with self._lock:
                self._records.write(attempt.model_dump_json() + "\n")
                self._records.flush()

    def _attempt(self, url: str, writes: bool) -> Attempt:
        parts = urlsplit(url)
        began, virtual_began = time.monotonic(), self._clock.now()
        address, status, content, error = "", 0, b"", ""
        try:
            address = self._outsider.address(parts.hostname or "")
            body = self._config.write_body if writes else None
            status, content = self._outsider.send(
                "POST" if writes else "GET", parts, address, body
            )
        except (OSError, http.client.HTTPException) as fault:
            error = f"{type(fault).__name__}: {fault}"
        identity = self._identity(content) if writes and 200 <= status < 300 else ""
        marker = self._config.fallback
        return Attempt(
            op="write" if writes else "read",
            ok=bool(identity) if writes else 200 <= status < 300,
            began=began, ended=time.monotonic(), virtual_began=virtual_began,
            virtual_ended=self._clock.now(), status=status, id=identity, address=address,
            fallback=bool(marker) and str(marker).encode() in content, error=error,
        )

    def _identity(self, content: bytes) -> str:
        """Empty when the answer names none: then it acknowledges nothing."""
        try:
            return str(json.loads(content)[self._config.id_field])
        except (ValueError, KeyError, TypeError):
            return ""


class RunningJudge:
    """A judge at work, seen from the process that started it."""

    def __init__(
        self, world: WorldHandle, config: TrafficConfig, records: Path,
        process: subprocess.Popen[bytes],
    ) -> None:
        self._world = world
        self._config = config
        self._records = records
        self._process = process

    def stop(self) -> Judgement:
        """End the traffic, ask the side in service what it holds, and judge.

        Raises Errored when the audit cannot be had or the client died; its record stays.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code != 0:
            raise Errored(f"the outside client ended with code {code}; see {self._records}")
        return judge(read_records(self._records), self._audit())

    def cancel(self) -> None:
        """End the traffic without a judgement."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _audit(self) -> list[str] | None:
        if self._config.audit is None:
            return None
        url = urlsplit(self._config.audit)
        outsider = Outsider(self._world.endpoints, max(10.0, self._config.timeout))
        try:
            address = outsider.address(url.hostname or "", self._world.authoritative)
            status, content = outsider.send("GET", url, address)
            if status != 200:
                raise OSError(f"status {status}")
            return [str(item) for item in json.loads(content)]
        except (OSError, http.client.HTTPException, ValueError, TypeError) as fault:
            raise Errored(
                f"the audit {self._config.audit} could not be made: {fault}",
                hint=f"the attempts are in {self._records}",
            ) from fault


def start_judge(world: WorldHandle, config_path: Path, records: Path) -> RunningJudge:
    """Start the traffic that ``traffic:`` of sandbox.yml describes; ``records`` gets a line an
    attempt. Raises Refused when sandbox.yml describes none."""
    config = load_config(config_path).traffic
    if config is None:
        raise Refused(
            f"{config_path} has no `traffic:`", hint="say there what customers read and write"
        )
    process = subprocess.Popen(
        [
            sys.executable, "-m", "runbook.sandbox.judge", "--config", str(config_path),
            "--endpoints", str(world.directory / "endpoints.json"), "--records", str(records),
        ],
        stdin=subprocess.PIPE, start_new_session=True,
    )
    return RunningJudge(world, config, records, process)


def read_records(path: Path) -> list[Attempt]:
    """The attempts in a record. A last line without its end was cut short and is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [Attempt.model_validate_json(line) for line in whole.splitlines()]


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def _until_end_of_input(ended: threading.Event) -> None:
    while not ended.is_set():
        ready, _, _ = select.select([0], [], [], 1.0)
        if ready and not os.read(0, 4096):
            ended.set()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runbook.sandbox.judge", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="sandbox.yml")
    parser.add_argument("--endpoints", type=Path, required=True, help="the world's table")
    parser.add_argument("--records", type=Path, required=True, help="file for the attempts")
    options = parser.parse_args()
    try:
        config = load_config(options.config).traffic or TrafficConfig()
        endpoints = Endpoints.model_validate_json(options.endpoints.read_bytes())
    except RunbookError as fault:
        sys.stderr.write(f"{fault.message}\n")
        return int(fault.exit_code)
    ended = threading.Event()
    threading.Thread(target=_until_end_of_input, args=(ended,), daemon=True).start()
    Traffic(endpoints, config, options.records).run(ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
