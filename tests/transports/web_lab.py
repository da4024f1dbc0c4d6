"""Small servers on free loopback ports: HTTP, HTTPS with a certificate of our own, a resolver."""

from __future__ import annotations

import datetime
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: int
    """The client's port: another one for every connection."""


@dataclass
class Web:
    port: int
    seen: list[Seen] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Ends what /slow waits for."""

    def url(self, path: str = "/", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            web.seen.append(Seen(
                self.command, self.path, dict(self.headers.items()), body,
                self.client_address[1],
            ))
            if self.path == "/slow":
                web.release.wait(10)
            if self.path == "/drop":
                self.close_connection = True
                return
            if self.path == "/torn":
                self._head(200, {"Content-Length": "100"})
                self.wfile.write(b"half")
                self.close_connection = True
                return
            if self.path == "/drip":
                self._head(200, {"Content-Length": "1000"})
                for _ in range(1000):
                    try:
                        self.wfile.write(b"x")
                        self.wfile.flush()
                    except OSError:
                        break
                    if web.release.wait(0.05):
                        break
                self.close_connection = True
                return
            status, headers, text = 200, {}, f"{self.command} {self.path}".encode() + b" " + body
            if self.path == "/moved":
                status, headers = 302, {"Location": "/ok"}
            elif self.path == "/big":
                text = b"x" * 1_000_000
            elif self.path == "/latin":
                headers, text = {"Content-Type": "text/plain; charset=latin-1"}, b"gr\xfc\xdfe"
            elif self.path == "/teapot":
                status = 418
            self._head(status, {**headers, "Content-Length": str(len(text))})
            if self.command != "HEAD":
                self.wfile.write(text)

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names http.server looks for

        def _head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def web_server(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    web = Web(0)
    server = _Server(("127.0.0.1", 0), _handler(web))
    web.port = server.server_address[1]
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    with _serving(server):
        yield web
        web.release.set()


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def self_signed(folder: Path, name: str) -> Path:
    """PEM file with a key and a certificate for ``name``, trusted by whoever trusts the file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@contextmanager
def resolver(answers: Mapping[tuple[str, str], tuple[str, ...]]) -> Iterator[int]:
    """A resolver on UDP that knows the given sets and NXDOMAIN; its port. Names are absolute."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            question = dns.message.from_wire(data)
            reply = dns.message.make_response(question)
            reply.flags |= dns.flags.RA
            asked = question.question[0]
            name, rtype = asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype)
            if ("!", name) in answers:
                return
            if (name, "CNAME") in answers:
                target = answers[name, "CNAME"][0]
                reply.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "CNAME", target))
                name = target
            if (name, rtype) in answers:
                reply.answer.append(
                    dns.rrset.from_text(name, 60, "IN", rtype, *answers[name, rtype])
                )
            elif not any(known == name for known, _ in answers):
                reply.set_rcode(dns.rcode.NXDOMAIN)
            sock.sendto(reply.to_wire(), self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        yield server.server_address[1]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
