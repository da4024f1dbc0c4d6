"""Zones as they are in the field, moved on BIND and Knot by whole runbooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.dns import Change
from tests.lab.dns_moves import (
    DOOMED,
    FAMILIES,
    SECRETS,
    axfr,
    change,
    everywhere,
    move,
    one,
    serial,
    steps,
    take_back,
    transport,
    zone,
)
from tests.lab.lab import RESOLVERS, Lab
from tests.lab.names import PRIMARY
from tests.lab.needs import marks
from tests.lab.network import inside
from tests.lab.zone_texts import MORE, NEW, NEW6, OLD, OLD6, RICH

pytestmark = marks

@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(RICH, more_zones=MORE) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


# -- what leads there ----------------------------------------------------------------------------

SHOP = "shop.example."
HOST = "host.shop.example. A 198.51.100.10"
WAYS = {
    f"{SHOP} A": f"{SHOP} A {OLD}",
    f"{SHOP} AAAA": f"{SHOP} AAAA {OLD6}",
    f"{SHOP} MX": f"{SHOP} MX → mail.{SHOP} A {OLD}",
    f"{SHOP} TXT": f"{SHOP} TXT {OLD}",
    f"{SHOP} CAA": f"{SHOP} CAA → {HOST}",
    f"www.{SHOP} CNAME": f"www.{SHOP} CNAME → edge.{SHOP} CNAME → {HOST}",
    f"edge.{SHOP} CNAME": f"edge.{SHOP} CNAME → {HOST}",
    f"host.{SHOP} A": HOST,
    f"host.{SHOP} AAAA": f"host.{SHOP} AAAA {OLD6}",
    f"host.{SHOP} HTTPS": f"host.{SHOP} HTTPS {OLD}",
    f"_8443._https.host.{SHOP} SVCB": f"_8443._https.host.{SHOP} SVCB {OLD}",
    f"*.tenant.{SHOP} A": f"*.tenant.{SHOP} A {OLD}",
    f"*.alias.{SHOP} CNAME": f"*.alias.{SHOP} CNAME → {HOST}",
    f"old.{SHOP} DNAME": f"old.{SHOP} DNAME → *.alias.{SHOP} CNAME → {HOST}",
    f"mail.{SHOP} A": f"mail.{SHOP} A {OLD}",
    f"mail.{SHOP} AAAA": f"mail.{SHOP} AAAA {OLD6}",
    f"_imap._tcp.{SHOP} SRV": f"_imap._tcp.{SHOP} SRV → mail.{SHOP} A {OLD}",
    f"_spf.{SHOP} TXT": f"_spf.{SHOP} TXT {OLD}",
    f"sip.{SHOP} NAPTR": f"sip.{SHOP} NAPTR → _sip._udp.{SHOP} SRV → {HOST}",
    f"_sip._udp.{SHOP} SRV": f"_sip._udp.{SHOP} SRV → {HOST}",
    f"_ftp._tcp.{SHOP} URI": f"_ftp._tcp.{SHOP} URI → {HOST}",
    f"rev.{SHOP} PTR": f"rev.{SHOP} PTR → {HOST}",
    f"sub.{SHOP} NS": f"sub.{SHOP} NS → ns.sub.{SHOP} A {OLD}",
    f"ns.sub.{SHOP} A": f"ns.sub.{SHOP} A {OLD}",
    f"low.{SHOP} A": f"low.{SHOP} A {OLD}",
    f"mixed.{SHOP} A": f"mixed.{SHOP} A {OLD}",
    f"odd_name.{SHOP} A": f"odd_name.{SHOP} A {OLD}",
    rf"first\.last.{SHOP} A": rf"first\.last.{SHOP} A {OLD}",
    rf"two\032words.{SHOP} A": rf"two\032words.{SHOP} A {OLD}",
    rf"semi\;colon.{SHOP} TXT": rf"semi\;colon.{SHOP} TXT {OLD}",
}
LITERAL = {key for key, way in WAYS.items() if "→" not in way}


def test_the_inventory_finds_everything_and_the_way_it_leads_there(
    lab: Lab, tmp_path: Path
) -> None:
    done = move(lab, tmp_path, f"""\
  - id: all
    kind: dns.inventory
    with: {{zone: shop.example, points_at: [{OLD}, '{OLD6}'], expect: some}}
""")
    assert done.driven.exit_code is ExitCode.OK, done.log
    found = {f"{r['name']} {r['type']}": r["reason"] for r in done.outputs("all")["records"]}
    assert found == WAYS
    notes = {note.partition(":")[0] for note in done.outputs("all")["follow_ups"]}
    assert notes == {
        f"host.{SHOP} SSHFP", f"_443._tcp.host.{SHOP} TLSA", f"k1._domainkey.{SHOP} TXT",
        f"note.{SHOP} TXT", f"sub.{SHOP} NS", f"dead.sub.{SHOP} A",
    }


# -- refused before anything is touched ----------------------------------------------------------


def test_an_aaaa_left_behind_is_named_before_anything_is_changed(
    lab: Lab, tmp_path: Path
) -> None:
    before = serial(lab, "shop.example")
    done = move(lab, tmp_path, f"""\
  - id: flip
    kind: dns.flip
    with: {{zone: shop.example, from: {OLD}, to: {NEW}, leave: [mail AAAA]}}
""")
    assert done.driven.exit_code is ExitCode.ROLLED_BACK
    told = done.state.nodes["flip"].detail
    for name in (f"host.{SHOP} AAAA", f"{SHOP} AAAA", f"host.{SHOP} HTTPS"):
        assert f"{name} keeps {OLD6}, which `from` does not name" in told
    assert f"mail.{SHOP} AAAA" not in told, "it is left there on purpose"
    assert serial(lab, "shop.example") == before


@pytest.mark.parametrize(("rtype", "rdata"), [
    ("TXT", '"v=spf1 ip4:198.51.100.0/24 -all"'),
    ("URI", f'10 1 "https://{OLD}/"'),
    ("CAA", f'0 iodef "https://{OLD}/"'),
    ("NAPTR", f'10 100 "U" "E2U+sip" "!^.*$!sip:info@{OLD}!" .'),
])
def test_what_cannot_be_rewritten_stands_in_the_way(
    lab: Lab, tmp_path: Path, rtype: str, rdata: str
) -> None:
    extra = Change(before=None, after=one("wide.split.example.", rtype, rdata))
    assert change(lab, extra, name="split.example").ok
    try:
        before = serial(lab, "split.example")
        flip = f"  - {{id: flip, kind: dns.flip, with: {{zone: split.example, {FAMILIES}"
        done = move(lab, tmp_path, flip + "}}\n")
        told = done.state.nodes["flip"].detail
        assert done.driven.exit_code is ExitCode.ROLLED_BACK
        assert f"wide.split.example. {rtype} holds an old address that cannot be replaced" in told
        assert serial(lab, "split.example") == before
        done = move(lab, tmp_path, flip + ", leave: [wide]}}\n" + DOOMED)
        assert done.changed("flip") >= {"split.example. A", "mail.split.example. A"}
        assert done.driven.exit_code is ExitCode.ROLLED_BACK, done.log
    finally:
        assert change(lab, extra.reversed, name="split.example").ok


# -- the move ------------------------------------------------------------------------------------


def moved(text: str) -> str:
    """A zone after the move: what only mentions the address stays, strings are joined."""
    lines = [
        line if line.startswith(("note.", "dead.sub.")) else
        line.replace(OLD, NEW).replace(OLD6, NEW6).replace('192.0.2.1 " "', "192.0.2.1 ")
        for line in text.splitlines()
    ]
    return "\n".join(sorted(lines))


def test_the_whole_zone_moves_and_is_taken_back(lab: Lab, tmp_path: Path) -> None:
    before, at = axfr(lab, "shop.example"), serial(lab, "shop.example")
    resolvers = ", ".join(RESOLVERS.values())
    done = move(lab, tmp_path, f"""\
  - id: dns
    playbook: dns/cutover
    with:
      zone: Shop.Example
      from: [{OLD}, '{OLD6}']
      to: [{NEW}, '{NEW6}']
      ttl: 2
      skew: 100ms
      check: www
      resolvers: [{resolvers}]
""")
    assert done.driven.exit_code is ExitCode.OK, done.log
    assert axfr(lab, "shop.example") == moved(before)
    assert done.changed("dns/flip") == LITERAL
    assert serial(lab, "shop.example") == at + 3, "lowered, flipped and restored: one update each"
    lowered = done.changed("dns/lower")
    assert lowered == (LITERAL | {
        f"www.{SHOP} CNAME", f"edge.{SHOP} CNAME", f"*.alias.{SHOP} CNAME", f"old.{SHOP} DNAME",
    }) - {f"low.{SHOP} A", f"mixed.{SHOP} A"}, "what was as low already is left alone"
    for rtype, address in (("A", NEW), ("AAAA", NEW6)):
        for name in ("www", "any.old", "mail"):
            for found in everywhere(lab, f"{name}.{SHOP}", rtype):
                assert address in found, (name, rtype)
    for resolver in RESOLVERS.values():
        assert lab.dig(f"@{resolver}", f"www.{SHOP}", "AAAA")[-1] == NEW6
        assert lab.dig(f"@{resolver}", f"ghost.tenant.{SHOP}", "A") == [NEW]
    back = take_back(lab, tmp_path, done)
    assert back.driven.exit_code is ExitCode.ROLLED_BACK, back.log
    assert axfr(lab, "shop.example") == before


def test_a_step_fails_after_the_ttls_were_restored_and_the_zone_is_as_before(
    lab: Lab, tmp_path: Path
) -> None:
    before, at = axfr(lab, "shop.example"), serial(lab, "shop.example")
    done = move(lab, tmp_path, steps("shop.example") + DOOMED)
    assert done.driven.exit_code is ExitCode.ROLLED_BACK, done.log
    assert axfr(lab, "shop.example") == before
    assert serial(lab, "shop.example") == at + 6


def test_names_as_they_are_written(lab: Lab, tmp_path: Path) -> None:
    """Upper case, underscores, dots inside of labels, blanks: one set at a time."""
    before = axfr(lab, "shop.example")
    names = r"""['ODD_name', 'first\.last', 'two\032words.shop.example', 'semi\;colon']"""
    done = move(lab, tmp_path, f"""\
  - id: flip
    kind: dns.flip
    with: {{zone: shop.example, {FAMILIES}, names: {names}}}
""" + DOOMED)
    assert done.driven.exit_code is ExitCode.ROLLED_BACK, done.log
    assert done.changed("flip") == {
        f"odd_name.{SHOP} A", rf"first\.last.{SHOP} A", rf"two\032words.{SHOP} A",
        rf"semi\;colon.{SHOP} TXT",
    }
    assert axfr(lab, "shop.example") == before


def test_an_address_becomes_an_alias_in_one_update(lab: Lab) -> None:
    """A CNAME may stand beside nothing else: gone and come in one message, and back."""
    name = f"low.{SHOP}"
    swap = (
        Change(before=one(name, "A", OLD, ttl=1), after=None),
        Change(before=None, after=one(name, "CNAME", f"mail.{SHOP}", ttl=1)),
    )
    before, at = axfr(lab, "shop.example"), serial(lab, "shop.example")
    assert change(lab, *swap).ok
    assert lab.dig(f"@{PRIMARY}", name, "A") == [f"mail.{SHOP}", OLD]
    again = change(lab, *swap)
    assert (again.ok, again.data) == (True, {"already": True})
    assert change(lab, *(c.reversed for c in swap)).ok
    assert axfr(lab, "shop.example") == before
    assert serial(lab, "shop.example") == at + 2
    half = change(lab, swap[1])
    assert not half.ok, "an alias beside an address: BIND says yes and does not do it"
    assert axfr(lab, "shop.example") == before


# -- large ---------------------------------------------------------------------------------------


def test_answers_that_fit_into_no_packet_are_asked_again_by_tcp(lab: Lab) -> None:
    cut = lab.run("control", "dig", "+ignore", "+bufsize=1232", f"@{PRIMARY}",
                  "many.big.example", "A").stdout
    assert "flags: qr aa tc" in cut
    with inside(lab.network.namespace("control")):
        dns = transport(zone("big.example"))
        for server in dns.servers(zone("big.example")):
            many = dns.ask(server, "many.big.example", "A")
            assert many.rrset is not None
            assert len(many.rrset.rdatas) == 91, server
        long = dns.get(zone("big.example"), "long.big.example", "TXT")
        assert long is not None
        assert len(long.rdatas) == 40
        found = dns.resolve(RESOLVERS["east"], "many.big.example", "A")
        assert found.rrset is not None
        assert len(found.rrset.rdatas) == 91
        assert len(dns.records(zone("big.example"))) == 3005


def test_three_hundred_sets_move_in_one_update(lab: Lab, tmp_path: Path) -> None:
    before, at = axfr(lab, "big.example"), serial(lab, "big.example")
    done = move(lab, tmp_path, f"""\
  - id: flip
    kind: dns.flip
    with: {{zone: big.example, from: {OLD}, to: {NEW}}}
""")
    assert done.driven.exit_code is ExitCode.OK, done.driven.why
    assert len(done.changed("flip")) == 301
    assert axfr(lab, "big.example") == "\n".join(sorted(before.replace(OLD, NEW).splitlines()))
    assert serial(lab, "big.example") == at + 1
    assert take_back(lab, tmp_path, done).driven.exit_code is ExitCode.ROLLED_BACK
    assert axfr(lab, "big.example") == before


def test_more_than_one_update_can_hold_is_refused_and_nothing_sent(
    lab: Lab, tmp_path: Path
) -> None:
    at = serial(lab, "big.example")
    done = move(lab, tmp_path, """\
  - id: flip
    kind: dns.flip
    with: {zone: big.example, from: 192.0.2.77, to: 192.0.2.78}
""")
    assert done.driven.exit_code is ExitCode.ROLLED_BACK
    assert "1200 changes do not fit into one update of 64 KiB; nothing was sent" in done.log
    assert serial(lab, "big.example") == at
