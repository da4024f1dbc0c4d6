"""The sandbox's authoritative server, asked by other people's tools."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import pytest

from runbook.sandbox.nameserver import AuthoritativeServer
from tests.dns_lab import KEYS, NEW, OLD, SECRET, SHOP, TSIG, HandClock

KEY = dns.tsig.Key("shop-key", SECRET, "hmac-sha256")
ORIGIN = "shop.example."


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def server(clock: HandClock) -> Iterator[AuthoritativeServer]:
    made = AuthoritativeServer({ORIGIN: SHOP}, KEYS, clock)
    made.start()
    yield made
    made.stop()


def ask(server: AuthoritativeServer, name: str, rtype: str) -> dns.message.Message:
    query = dns.message.make_query(f"{name}.shop.example." if name else ORIGIN, rtype)
    return dns.query.udp(query, "127.0.0.1", 2, server.port)


def send(server: AuthoritativeServer, update: dns.update.UpdateMessage) -> str:
    update.use_tsig(KEY)
    return dns.rcode.to_text(dns.query.tcp(update, "127.0.0.1", 2, server.port).rcode())


def serial(server: AuthoritativeServer) -> int:
    return int(ask(server, "", "SOA").answer[0][0].serial)


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "answers"),
    [
        ("mail", "A", "NOERROR", ["A"]),
        ("www", "A", "NOERROR", ["CNAME", "A"]),
        ("www", "CNAME", "NOERROR", ["CNAME"]),
        ("a.b.tenant", "A", "NOERROR", ["CNAME", "A"]),
        ("tenant", "A", "NOERROR", []),
        ("none", "A", "NXDOMAIN", []),
        ("mail", "AAAA", "NOERROR", []),
        ("www", "MX", "NOERROR", ["CNAME"]),
    ],
)
def test_answers(
    server: AuthoritativeServer, name: str, rtype: str, rcode: str, answers: list[str]
) -> None:
    reply = ask(server, name, rtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert [dns.rdatatype.to_text(one.rdtype) for one in reply.answer] == answers
    if not answers or (answers == ["CNAME"] and rtype == "MX"):
        assert reply.authority[0].rdtype == dns.rdatatype.SOA
        assert reply.authority[0].ttl == 300


def test_a_foreign_name_is_refused(server: AuthoritativeServer) -> None:
    reply = dns.query.udp(
        dns.message.make_query("other.example.", "A"), "127.0.0.1", 2, server.port
    )
    assert reply.rcode() == dns.rcode.REFUSED


def test_dname_is_followed(clock: HandClock) -> None:
    server = AuthoritativeServer({ORIGIN: SHOP + "old DNAME tenant\n"}, {}, clock)
    server.start()
    try:
        reply = ask(server, "x.old", "A")
        kinds = [dns.rdatatype.to_text(one.rdtype) for one in reply.answer]
        assert kinds == ["DNAME", "CNAME", "CNAME", "A"]
    finally:
        server.stop()


def test_an_update_bumps_the_serial_once(server: AuthoritativeServer) -> None:
    was = serial(server)
    update = dns.update.UpdateMessage(ORIGIN)
    update.replace("mail", 60, "A", NEW)
    update.add("new", 60, "A", NEW)
    assert send(server, update) == "NOERROR"
    assert serial(server) == was + 1
    same = dns.update.UpdateMessage(ORIGIN)
    same.add("new", 60, "A", NEW)
    assert send(server, same) == "NOERROR"
    assert serial(server) == was + 1, "nothing changed"


def prerequisite(what: str) -> dns.update.UpdateMessage:
    update = dns.update.UpdateMessage(ORIGIN)
    match what:
        case "value":
            update.present("mail", "A", OLD)
        case "other value":
            update.present("mail", "A", NEW)
        case "part of the value":
            update.present("api", "A", OLD)
        case "value with a TTL":
            update.present("mail", dns.rdataset.from_text("IN", "A", 3600, OLD))
        case "exists":
            update.present("mail", "A")
        case "does not exist":
            update.present("mail", "AAAA")
        case "absent":
            update.absent("mail", "AAAA")
        case "not absent":
            update.absent("mail", "A")
        case "name in use":
            update.present("mail")
        case "name not in use":
            update.present("nobody")
        case "name absent":
            update.absent("nobody")
        case "name not absent":
            update.absent("mail")
        case "outside":
            update.present(dns.name.from_text("www.other.example."), "A")
    return update


@pytest.mark.parametrize(
    ("what", "rcode"),
    [
        ("value", "NOERROR"), ("other value", "NXRRSET"), ("part of the value", "NXRRSET"),
        ("value with a TTL", "FORMERR"), ("exists", "NOERROR"), ("does not exist", "NXRRSET"),
        ("absent", "NOERROR"), ("not absent", "YXRRSET"), ("name in use", "NOERROR"),
        ("name not in use", "NXDOMAIN"), ("name absent", "NOERROR"),
        ("name not absent", "YXDOMAIN"), ("outside", "NOTZONE"),
    ],
)
def test_prerequisites_as_in_section_3_2(
    server: AuthoritativeServer, what: str, rcode: str
) -> None:
    before = server.snapshot()
    update = prerequisite(what)
    update.replace("mail", 60, "A", NEW)
    assert send(server, update) == rcode
    assert (server.snapshot() != before) is (rcode == "NOERROR")


def test_what_an_update_may_not_touch(server: AuthoritativeServer) -> None:
    before = server.snapshot()
    update = dns.update.UpdateMessage(ORIGIN)
    update.delete("@", "SOA")
    update.delete("@", "NS")
    update.add("mail", 60, "CNAME", "shop")
    update.add("www", 60, "A", NEW)
    update.delete("other", "A", "192.0.2.250")
    assert send(server, update) == "NOERROR"
    assert server.snapshot() == before
    last = dns.update.UpdateMessage(ORIGIN)
    last.delete("@", "NS", "ns1")
    last.delete("@", "NS", "ns2")
    assert send(server, last) == "NOERROR"
    assert server.snapshot().count(" IN NS ") == 1
    whole = dns.update.UpdateMessage(ORIGIN)
    whole.delete("@")
    whole.delete("mail")
    assert send(server, whole) == "NOERROR"
    text = server.snapshot()
    assert "mail.shop.example. 3600 IN A" not in text
    assert " IN SOA " in text
    assert " IN NS " in text
    assert "shop.example. 3600 IN MX" not in text


def test_one_record_with_a_new_ttl_retimes_the_set(server: AuthoritativeServer) -> None:
    update = dns.update.UpdateMessage(ORIGIN)
    update.add("api", 99, "A", "192.0.2.100")
    assert send(server, update) == "NOERROR"
    assert server.snapshot().count("api.shop.example. 99 IN A") == 3


def test_unsigned_updates_and_transfers_are_refused(server: AuthoritativeServer) -> None:
    update = dns.update.UpdateMessage(ORIGIN)
    update.add("x", 60, "A", NEW)
    reply = dns.query.tcp(update, "127.0.0.1", 2, server.port)
    assert reply.rcode() == dns.rcode.REFUSED
    transfer = dns.message.make_query(ORIGIN, "AXFR")
    assert dns.query.tcp(transfer, "127.0.0.1", 2, server.port).rcode() == dns.rcode.REFUSED


def test_without_keys_the_server_is_open(clock: HandClock) -> None:
    server = AuthoritativeServer({ORIGIN: SHOP}, {}, clock)
    server.start()
    try:
        update = dns.update.UpdateMessage(ORIGIN)
        update.replace("mail", 60, "A", NEW)
        assert dns.query.udp(update, "127.0.0.1", 2, server.port).rcode() == dns.rcode.NOERROR
    finally:
        server.stop()
    assert NEW in server.snapshot()


def test_a_secondary_follows_late(server: AuthoritativeServer, clock: HandClock) -> None:
    late = server.secondary(30)
    late.start()
    try:
        clock.move(100)
        update = dns.update.UpdateMessage(ORIGIN)
        update.replace("mail", 60, "A", NEW)
        assert send(server, update) == "NOERROR"
        assert ask(server, "mail", "A").answer[0][0].address == NEW
        clock.move(29)
        assert ask(late, "mail", "A").answer[0][0].address == OLD
        clock.move(2)
        assert ask(late, "mail", "A").answer[0][0].address == NEW
        assert send(late, update) == "NOTAUTH"
    finally:
        late.stop()


def test_rubbish_is_answered_with_formerr(server: AuthoritativeServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(b"\x12\x34" + b"\x00" * 3 + b"\x09" * 7, ("127.0.0.1", server.port))
        assert sock.recv(512)[:4] == b"\x12\x34\x80\x01"
    assert ask(server, "mail", "A").answer


def test_a_big_zone_is_transferred_in_several_signed_messages(clock: HandClock) -> None:
    many = "".join(f'h{n} IN TXT "{"x" * 200}" "{"y" * 200}"\n' for n in range(800))
    server = AuthoritativeServer({ORIGIN: SHOP + many}, KEYS, clock)
    server.start()
    try:
        zone = dns.zone.Zone(ORIGIN, relativize=False)
        query, _ = dns.xfr.make_query(zone, serial=None, keyring=KEY)
        dns.query.inbound_xfr("127.0.0.1", zone, query, server.port, timeout=5)
        assert sum(1 for name in zone.nodes if str(name).startswith("h")) == 800
    finally:
        server.stop()


def test_start_and_stop(server: AuthoritativeServer) -> None:
    port = server.port
    with pytest.raises(RuntimeError, match="already started"):
        server.start()
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.port
    assert server.start(port) == port
    assert ask(server, "mail", "A").answer


@pytest.mark.lab
@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (bind9-dnsutils)")
def test_dig_understands_it(server: AuthoritativeServer) -> None:
    at = ["@127.0.0.1", "-p", str(server.port), "+time=2"]
    short = subprocess.run(
        ["dig", *at, "+short", "www.shop.example"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert short == ["shop.shop.example.", OLD]
    name, algorithm, secret = TSIG.split(":")
    whole = subprocess.run(
        ["dig", *at, "-y", f"{algorithm}:{name}:{secret}", "shop.example", "AXFR", "+onesoa"],
        capture_output=True, text=True, check=True,
    ).stdout
    assert "mail.shop.example.\t3600\tIN\tA" in whole
    assert "Couldn't verify" not in whole
    assert "SERVER: 127.0.0.1" in whole


@pytest.mark.lab
@pytest.mark.skipif(shutil.which("nsupdate") is None, reason="nsupdate is not installed")
@pytest.mark.parametrize(
    ("secret", "words"), [(SECRET, ""), ("d3JvbmctMDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "BADSIG")]
)
def test_nsupdate_understands_it(
    server: AuthoritativeServer, tmp_path: Path, secret: str, words: str
) -> None:
    keyfile = tmp_path / "key"
    keyfile.write_text(f'key "shop-key" {{ algorithm hmac-sha256; secret "{secret}"; }};\n')
    commands = (
        f"server 127.0.0.1 {server.port}\nzone shop.example\n"
        f"prereq yxrrset mail.shop.example A {OLD}\n"
        f"update delete mail.shop.example A\nupdate add mail.shop.example 60 A {NEW}\nsend\n"
    )
    done = subprocess.run(
        ["nsupdate", "-k", str(keyfile)], input=commands, capture_output=True, text=True,
        check=False, timeout=20,
    )
    assert words in done.stderr
    assert (done.returncode == 0) is (words == "")
    assert (f"mail.shop.example. 60 IN A {NEW}" in server.snapshot()) is (words == "")
