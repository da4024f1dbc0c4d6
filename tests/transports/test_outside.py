"""The client that the probes of budgets are, against real servers, from here and through SSH."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import Errored
from runbook.model.ports import HttpResponse
from runbook.model.secrets import Redactor, mark
from runbook.transports.outside import Outside
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh.pool import SshPool
from tests.transports.ssh_lab import Sshd, free_port, make_pool, needs_sshd
from tests.transports.web_lab import Web, web_server


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as made:
        yield made


def ask(outside: Outside, url: str, **more: Any) -> HttpResponse:
    given: dict[str, Any] = {"method": "POST", "headers": {}, "body": None, "timeout": 2.0,
                             "via": None, "verify_tls": True}
    return outside.request(url, **{**given, **more})


def client(pool: SshPool | None = None) -> Outside:
    redactor = Redactor()
    secrets = SecretStore((), directory=Path(), redactor=redactor, values={"token": "s3cr3t-one"})

    def nowhere(host: str, name: str, port: int, timeout: float) -> Any:
        raise Errored(f"no way to {host}")

    return Outside(
        endpoints=None, vantage=pool.vantage if pool else nowhere,
        alive=(lambda name: pool.host_reads(name).query("true", timeout=5.0)) if pool
        else (lambda name: None), secrets=secrets, redactor=redactor,
    )


def test_it_sends_what_it_is_told_over_a_new_connection_each_time(web: Web) -> None:
    outside = client()
    for _ in range(3):
        answer = ask(outside, web.url("/ok"), body='{"probe": true}',
                     headers={"X-Token": mark("token")})
        assert answer.status == 200
    assert {one.method for one in web.seen} == {"POST"}
    assert {one.body for one in web.seen} == {b'{"probe": true}'}
    assert web.seen[0].headers["X-Token"] == "s3cr3t-one"
    assert web.seen[0].headers["User-Agent"] == "runbook-probe"
    assert len({one.peer for one in web.seen}) == 3


def test_what_does_not_answer_in_time_is_no_answer(web: Web) -> None:
    outside = client()
    answer = ask(outside, web.url("/slow"), timeout=0.3)
    web.release.set()
    assert (answer.status, answer.error) == (0, "timed out after 300ms")
    assert ask(outside, f"http://127.0.0.1:{free_port()}/").status == 0


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that answers no connection any more: its queue is full, and nobody takes from it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        try:
            yield port
        finally:
            for one in waiting:
                one.close()


@pytest.mark.lab
@needs_sshd
def test_from_another_host(web: Web, sshd: Sshd, tmp_path: Path) -> None:
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    outside = client(pool)
    try:
        assert ask(outside, web.url("/ok", host="localhost"), via="web1").status == 200
        refused = ask(outside, f"http://127.0.0.1:{free_port()}/", via="web1")
        assert refused.status == 0 and "as seen from web1" in refused.error
    finally:
        pool.close()


@pytest.mark.lab
@needs_sshd
def test_a_far_end_that_keeps_silent_is_down_and_holds_up_no_step(
    web: Web, sshd: Sshd, tmp_path: Path
) -> None:
    """The connection that steps use is another one: it is neither kept waiting nor dropped."""
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    outside = client(pool)
    try:
        reads = pool.host_reads("web1")
        shell = reads.query("echo $PPID").stdout
        with silent_port() as port:
            found: list[HttpResponse] = []
            asking = threading.Thread(target=lambda: found.append(
                ask(outside, f"http://127.0.0.1:{port}/", via="web1", timeout=1.0)))
            asking.start()
            while asking.is_alive():
                assert reads.query("echo $PPID").stdout == shell
            asking.join()
        (silent,) = found
        assert silent.status == 0
        assert "web1 cannot reach" in silent.error and "no answer within 1 s" in silent.error
        assert ask(outside, web.url("/ok"), via="web1").status == 200
    finally:
        pool.close()


@pytest.mark.lab
@needs_sshd
def test_a_vantage_point_out_of_reach_is_an_error_and_no_outage(
    web: Web, sshd: Sshd, tmp_path: Path
) -> None:
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    outside = client(pool)
    try:
        assert ask(outside, web.url("/ok"), via="web1").status == 200
        sshd.stop()
        with pytest.raises(Errored):
            ask(outside, web.url("/ok"), via="web1")
    finally:
        pool.close()
