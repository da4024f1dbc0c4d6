"""HTTP and TCP against real servers on loopback: directly, into a sandbox, through a tunnel."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from runbook.errors import Errored, InDoubt
from runbook.model.actions import ActionKey, SendRequest
from runbook.model.endpoints import Endpoints
from runbook.model.secrets import Redactor, SecretRef, mark
from runbook.transports.net import NetTransport
from runbook.transports.net_dial import Tunnel, split_address
from runbook.transports.secrets import SecretStore
from tests.transports.ssh_lab import Sshd, make_pool, needs_sshd
from tests.transports.web_lab import (
    Web,
    closed_port,
    resolver,
    self_signed,
    server_context,
    web_server,
)

SECRET = "tok-3141592653"
KEY = ActionKey(run="r", node="n", op="do", attempt=1, index=0)


def transport(
    endpoints: Endpoints | None = None, tunnel: Tunnel | None = None
) -> NetTransport:
    redactor = Redactor()
    secrets = SecretStore(
        [SecretRef(name="token", source="env", argument="T")], directory=Path(),
        redactor=redactor, environ={"T": SECRET},
    )
    return NetTransport(endpoints=endpoints, tunnel=tunnel, secrets=secrets, redactor=redactor)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as made:
        yield made


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """HTTPS for shop.example, with a certificate that this process trusts."""
    pem = self_signed(tmp_path, "shop.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with web_server(server_context(pem)) as made:
        yield made


# -- directly ----------------------------------------------------------------------------------


def test_an_answer(web: Web) -> None:
    answer = transport().http(web.url("/ok"), headers={"X-One": "1"})
    assert (answer.status, answer.body.strip(), answer.error) == (200, "GET /ok", "")
    assert answer.address == "127.0.0.1" and 0 < answer.elapsed < 5
    assert web.seen[0].headers["X-One"] == "1"
    assert web.seen[0].headers["Host"] == f"127.0.0.1:{web.port}"


def test_a_name_is_resolved_by_the_system(web: Web) -> None:
    answer = transport().http(web.url("/ok", host="localhost"))
    assert answer.status == 200, answer.error


def test_head_has_no_body(web: Web) -> None:
    assert transport().http(web.url("/ok"), method="HEAD").body == ""
    assert web.seen[0].method == "HEAD"


def test_every_request_is_a_new_connection(web: Web) -> None:
    net = transport()
    for _ in range(3):
        assert net.http(web.url("/ok")).status == 200
    assert len({one.peer for one in web.seen}) == 3


def test_proxies_of_the_environment_are_not_used(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert transport().http(web.url("/ok")).status == 200


def test_a_redirection_is_an_answer_unless_followed(web: Web) -> None:
    answer = transport().http(web.url("/moved"))
    assert (answer.status, answer.headers["location"]) == (302, "/ok")
    followed = transport().http(web.url("/moved"), follow=True)
    assert (followed.status, followed.url) == (200, web.url("/ok"))


def test_a_body_is_decoded_and_bounded(web: Web) -> None:
    assert transport().http(web.url("/latin")).body == "grüße"
    assert len(transport().http(web.url("/big")).body) == 256 * 1024


@pytest.mark.parametrize(("path", "said"), [
    ("/drop", "without sending a response"), ("/torn", "closed connection"),
])
def test_an_answer_that_breaks_off_is_none(web: Web, path: str, said: str) -> None:
    answer = transport().http(web.url(path))
    assert answer.status == 0 and said in answer.error


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_the_timeout_is_for_the_whole_request(web: Web, path: str) -> None:
    began = time.monotonic()
    answer = transport().http(web.url(path), timeout=0.4)
    assert answer.status == 0 and "timed out after 400ms" in answer.error
    assert time.monotonic() - began < 2
    assert 0.3 < answer.elapsed < 2


def test_nobody_there_is_told_in_words() -> None:
    port = closed_port()
    answer = transport().http(f"http://127.0.0.1:{port}/")
    assert answer.status == 0 and answer.error == f"connection refused by 127.0.0.1:{port}"
    unknown = transport().http("http://no-such-name.invalid/")
    assert unknown.status == 0 and "no-such-name.invalid" in unknown.error


@pytest.mark.parametrize("url", ["http://[::1/", "http://127.0.0.1:99999/", "ftp://x/"])
def test_what_is_no_url_is_told(url: str) -> None:
    answer = transport().http(url)
    assert answer.status == 0 and answer.error


def test_tcp_opens_or_says_why_not(web: Web) -> None:
    net = transport()
    assert net.tcp("127.0.0.1", web.port) == ""
    port = closed_port()
    assert net.tcp("127.0.0.1", port) == f"connection refused by 127.0.0.1:{port}"


def test_a_full_backlog_times_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        said = transport().tcp("127.0.0.1", port, timeout=0.3)
        for filler in fillers:
            filler.close()
    assert said.startswith("timed out after 300ms")


def test_connect_to_takes_the_place_of_the_name(web: Web) -> None:
    answer = transport().http(
        "http://shop.example/ok", connect_to=f"127.0.0.1:{web.port}"
    )
    assert answer.status == 200 and web.seen[0].headers["Host"] == "shop.example"
    by_port = transport().http(web.url("/ok", host="shop.example"), connect_to="127.0.0.1")
    assert by_port.status == 200 and by_port.address == "127.0.0.1"


@pytest.mark.parametrize(("text", "parts"), [
    ("203.0.113.10", ("203.0.113.10", None)), ("web1:8080", ("web1", 8080)),
    ("2001:db8::1", ("2001:db8::1", None)), ("[2001:db8::1]:443", ("2001:db8::1", 443)),
    ("[::1]", ("::1", None)),
])
def test_addresses_with_and_without_a_port(text: str, parts: tuple[str, int | None]) -> None:
    assert split_address(text) == parts


# -- TLS ---------------------------------------------------------------------------------------


def test_a_valid_certificate_is_accepted(tls: Web) -> None:
    url = tls.url("/ok", host="shop.example", scheme="https")
    answer = transport().http(url, connect_to="127.0.0.1")
    assert answer.status == 200, answer.error
    assert len(transport().http(tls.url("/big", host="shop.example", scheme="https"),
                                connect_to="127.0.0.1").body) == 256 * 1024


def test_a_certificate_for_another_name_is_refused_unless_told(tls: Web) -> None:
    url = tls.url("/ok", host="other.example", scheme="https")
    answer = transport().http(url, connect_to="127.0.0.1")
    assert answer.status == 0 and "certificate is not valid" in answer.error
    assert "other.example" in answer.error
    assert transport().http(url, connect_to="127.0.0.1", verify_tls=False).status == 200


def test_an_unknown_issuer_is_refused(tls: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    url = tls.url("/ok", host="shop.example", scheme="https")
    answer = transport().http(url, connect_to="127.0.0.1")
    assert answer.status == 0 and "self-signed" in answer.error


def test_a_port_without_tls_is_told(web: Web) -> None:
    answer = transport().http(web.url("/ok", scheme="https"), timeout=2)
    assert answer.status == 0 and "TLS handshake" in answer.error


# -- a sandbox ---------------------------------------------------------------------------------


@pytest.fixture
def sandbox(web: Web) -> Iterator[Endpoints]:
    sets = {
        ("shop.example.", "A"): ("203.0.113.10",),
        ("www.shop.example.", "CNAME"): ("shop.example.",),
        ("lost.example.", "A"): ("203.0.113.99",),
        ("six.example.", "AAAA"): ("2001:db8::1",),
        ("!", "silent.example."): (),
    }
    with resolver(sets) as port:
        yield Endpoints(
            resolver=f"127.0.0.1:{port}", clock="/nowhere",
            tcp={"203.0.113.10:80": f"127.0.0.1:{web.port}",
                 "2001:db8::1:80": f"127.0.0.1:{web.port}",
                 "203.0.113.20:80": f"127.0.0.1:{closed_port()}"},
            names={"west-web": "203.0.113.10"},
        )


@pytest.mark.parametrize(("host", "address"), [
    ("shop.example", "203.0.113.10"), ("www.shop.example", "203.0.113.10"),
    ("203.0.113.10", "203.0.113.10"), ("west-web", "203.0.113.10"),
    ("six.example", "2001:db8::1"),
])
def test_names_and_addresses_of_a_sandbox(
    sandbox: Endpoints, web: Web, host: str, address: str
) -> None:
    answer = transport(sandbox).http(f"http://{host}/ok")
    assert (answer.status, answer.address) == (200, address), answer.error
    assert web.seen[0].headers["Host"] == host


def test_what_is_not_in_the_table_is_refused(sandbox: Endpoints, web: Web) -> None:
    net = transport(sandbox)
    for url in (web.url("/ok"), "http://lost.example/", "http://shop.example:8080/"):
        with pytest.raises(Errored, match="nothing listens"):
            net.http(url)
    with pytest.raises(Errored):
        net.tcp("127.0.0.1", web.port)
    assert web.seen == []


def test_names_a_sandbox_does_not_know(sandbox: Endpoints) -> None:
    net = transport(sandbox)
    assert "does not exist" in net.http("http://nothing.example/").error
    assert "does not exist" in net.tcp("localhost", 80)
    silent = net.http("http://silent.example/", timeout=0.3)
    assert silent.status == 0 and "cannot be resolved" in silent.error
    assert net.tcp("203.0.113.20", 80).startswith("connection refused by 203.0.113.20:80")


# -- through another host ----------------------------------------------------------------------


class OnlyAChannel:
    """A connection that is no socket: what paramiko gives."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address)
        self.recv: Callable[[int], bytes] = self._sock.recv
        self.sendall: Callable[[bytes], Any] = self._sock.sendall
        self.settimeout: Callable[[float | None], Any] = self._sock.settimeout
        self.close: Callable[[], Any] = self._sock.close


def tunnel_to(web: Web, asked: list[tuple[str, str, int]]) -> Tunnel:
    def tunnel(host: str, name: str, port: int) -> OnlyAChannel:
        asked.append((host, name, port))
        return OnlyAChannel(("127.0.0.1", web.port))

    return tunnel


def test_the_far_host_resolves_the_name(web: Web) -> None:
    asked: list[tuple[str, str, int]] = []
    answer = transport(tunnel=tunnel_to(web, asked)).http("http://shop.example/ok", via="probe")
    assert answer.status == 200 and answer.address == ""
    assert asked == [("probe", "shop.example", 80)]


def test_tls_goes_through_what_is_no_socket(tls: Web) -> None:
    net = transport(tunnel=tunnel_to(tls, []))
    answer = net.http("https://shop.example/big", via="probe")
    assert (answer.status, len(answer.body)) == (200, 256 * 1024), answer.error
    assert "not valid" in net.http("https://x.example/", via="probe").error
    slow = net.http("https://shop.example/slow", via="probe", timeout=0.4)
    assert "timed out after 400ms" in slow.error


def test_a_refusal_seen_from_there_is_no_answer_a_lost_host_an_error() -> None:
    def refused(host: str, name: str, port: int) -> Any:
        raise Errored("cannot reach") from paramiko.ChannelException(2, "Connect failed")

    def forbidden(host: str, name: str, port: int) -> Any:
        raise Errored("not allowed") from paramiko.ChannelException(1, "prohibited")

    net = transport(tunnel=refused)
    assert net.tcp("203.0.113.10", 80, via="probe").startswith("connection refused by 203")
    assert "unknown name for probe" in net.tcp("db.example", 80, via="probe")
    assert net.http("http://203.0.113.10/", via="probe").status == 0
    with pytest.raises(Errored, match="not allowed"):
        transport(tunnel=forbidden).http("http://203.0.113.10/", via="probe")
    with pytest.raises(Errored, match="no way to look"):
        transport().tcp("203.0.113.10", 80, via="probe")


@pytest.mark.lab
@needs_sshd
def test_through_a_real_ssh_server(
    tls: Web, sshd: Sshd, tmp_path: Path
) -> None:
    pool = make_pool(sshd.inventory(), tmp_path / "state")
    net = transport(tunnel=pool.tunnel)
    url = tls.url("/big", host="localhost", scheme="https")
    answer = net.http(url, via="web1", verify_tls=False)
    assert (answer.status, len(answer.body)) == (200, 256 * 1024), answer.error
    assert net.tcp("127.0.0.1", tls.port, via="web1") == ""
    assert net.tcp("127.0.0.1", closed_port(), via="web1").startswith("connection refused")
    sshd.stop()
    with pytest.raises(Errored):
        net.tcp("127.0.0.1", tls.port, via="web1")
    pool.close()


# -- requests that change something ------------------------------------------------------------


def test_a_request_is_sent_once_with_secrets_and_its_key(web: Web) -> None:
    action = SendRequest(
        method="POST", url=web.url(f"/change?t={mark('token')}"), body=f"t={mark('token')}",
        headers={"Authorization": f"Bearer {mark('token')}"},
    )
    result = transport().perform(action, KEY)
    assert result.ok and result.data["status"] == 200
    (seen,) = web.seen
    assert seen.headers["Authorization"] == f"Bearer {SECRET}"
    assert seen.body == f"t={SECRET}".encode() and SECRET in seen.path
    assert seen.headers["Idempotency-Key"] == str(KEY)
    assert SECRET not in result.model_dump_json() and mark("token") in result.data["body"]


def test_a_status_that_is_not_wanted_is_a_failure(web: Web) -> None:
    action = SendRequest(method="PUT", url=web.url("/teapot"))
    assert not transport().perform(action, KEY).ok
    moved = transport().perform(SendRequest(method="POST", url=web.url("/moved")), KEY)
    assert not moved.ok and [one.path for one in web.seen] == ["/teapot", "/moved"]


def test_what_was_not_sent_changed_nothing(tls: Web) -> None:
    refused = SendRequest(method="POST", url=f"http://127.0.0.1:{closed_port()}/")
    with pytest.raises(Errored, match="was not sent: connection refused"):
        transport().perform(refused, KEY)
    untrusted = SendRequest(method="POST", url=tls.url("/", scheme="https"))
    with pytest.raises(Errored, match="certificate"):
        transport().perform(untrusted, KEY)
    assert tls.seen == []


@pytest.mark.parametrize("path", ["/drop", "/slow", "/torn"])
def test_what_was_sent_without_an_answer_is_in_doubt(web: Web, path: str) -> None:
    action = SendRequest(method="POST", url=web.url(path), timeout=0.4)
    with pytest.raises(InDoubt, match="no answer came"):
        transport().perform(action, KEY)
    assert len(web.seen) == 1


def test_only_a_repeatable_request_is_settled_after_a_crash() -> None:
    action = SendRequest(method="POST", url="http://x/")
    assert transport().resolve(action, KEY).outcome == "unknown"
    again = action.model_copy(update={"idempotent": True})
    assert transport().resolve(again, KEY).outcome == "not_done"
