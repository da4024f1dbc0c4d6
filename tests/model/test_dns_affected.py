"""What leads to an address, by which way, and how the address is replaced."""

from __future__ import annotations

import pytest

from runbook.model.dns import RRset
from runbook.model.dns_affected import affected, follow_ups, reverse_address
from runbook.model.dns_literals import literals, rewrite, txt_rdata, txt_text
from runbook.model.dns_rewrite import AddressMap, rewriting

OLD, NEW = "198.51.100.10", "203.0.113.10"


def zone(*lines: str) -> tuple[RRset, ...]:
    """``name TYPE data`` a line, names relative to shop.example."""
    sets: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        name, rtype, data = line.split(" ", 2)
        owner = "shop.example." if name == "@" else f"{name}.shop.example."
        sets.setdefault((owner if not name.endswith(".") else name, rtype), []).append(data)
    return tuple(
        RRset(name=name, rtype=rtype, ttl=3600, rdatas=tuple(sorted(data)))
        for (name, rtype), data in sets.items()
    )


def reasons(*lines: str, addresses: str | list[str] = OLD) -> dict[str, str]:
    found = affected(zone(*lines), addresses)
    return {f"{one.rrset.name} {one.rrset.rtype}": one.reason for one in found}


def test_the_way_is_shown() -> None:
    found = reasons("@ MX 10 mail.shop.example.", f"mail A {OLD}", "other A 192.0.2.1")
    assert found == {
        "shop.example. MX": f"shop.example. MX → mail.shop.example. A {OLD}",
        "mail.shop.example. A": f"mail.shop.example. A {OLD}",
    }


@pytest.mark.parametrize(
    "line",
    [
        "x CNAME mail.shop.example.",
        "x NS mail.shop.example.",
        "x PTR mail.shop.example.",
        "x MX 10 mail.shop.example.",
        "x SRV 0 1 443 mail.shop.example.",
        'x HTTPS 1 mail.shop.example. alpn="h2"',
        'x NAPTR 10 10 "s" "SIP+D2U" "" mail.shop.example.',
        'x URI 10 1 "https://mail.shop.example/path"',
        'x CAA 0 iodef "https://mail.shop.example/"',
        'x TXT "v=spf1 a:mail.shop.example -all"',
        'x TXT "v=spf1 ?a:mail.shop.example/24 -all"',
        'x TXT "v=spf1 mx:m.shop.example -all"',
        'x TXT "v=spf1 include:i.shop.example -all"',
        'x TXT "v=spf1 redirect=i.shop.example"',
        "x CNAME m.tenant.shop.example.",
        "x CNAME mail.old.shop.example.",
        'x URI 10 1 "https://198.51.100.10:8443/path"',
        f'x TXT "v=spf1 ip4:{OLD} -all"',
        f'x SVCB 1 . ipv4hint="192.0.2.1,{OLD}"',
        'x TXT "v=spf1 ip4:198.51.100.0/24 -all"',
    ],
)
def test_every_type_that_can_lead_there(line: str) -> None:
    found = reasons(
        line, f"mail A {OLD}", "m MX 5 mail.shop.example.", "*.tenant CNAME mail.shop.example.",
        'i TXT "v=spf1 a:mail.shop.example -all"', "old DNAME shop.example.",
    )
    owner, rtype, _ = line.split(" ", 2)
    assert f"{owner}.shop.example. {rtype}" in found


@pytest.mark.parametrize(
    "line",
    [
        "x A 198.51.100.1", "x CNAME elsewhere.example.", 'x TXT "ip4:198.51.100.10"',
        'x TXT "v=spf1 ip4:198.51.100.100 -all"', "x CNAME sub.ent.shop.example.",
        'x URI 10 1 "https://1198.51.100.10/"', "x AAAA 2001:db8::1",
    ],
)
def test_what_only_looks_like_it(line: str) -> None:
    lines = (line, f"mail A {OLD}", "ent.tenant A 192.0.2.1")
    assert "x.shop.example." not in " ".join(reasons(*lines))


def test_a_name_that_exists_is_not_answered_by_a_wildcard() -> None:
    found = reasons(
        f"* A {OLD}", "deep.ent TXT hello", "x CNAME ent.shop.example.", "y CNAME any.shop.example."
    )
    assert "y.shop.example. CNAME" in found
    assert "x.shop.example. CNAME" not in found, "ent.shop.example. is an empty non-terminal"


def test_loops_end() -> None:
    found = reasons(
        "a CNAME b.shop.example.", "b CNAME a.shop.example.",
        'p TXT "v=spf1 include:q.shop.example -all"',
        f'q TXT "v=spf1 include:p.shop.example ip4:{OLD} -all"',
    )
    assert set(found) == {"p.shop.example. TXT", "q.shop.example. TXT"}


def test_several_addresses_and_networks() -> None:
    lines = ("a A 198.51.100.10", "b A 198.51.100.99", "c AAAA 2001:db8::5", "d A 192.0.2.1")
    assert len(reasons(*lines, addresses=["198.51.100.0/24", "2001:db8::5"])) == 3
    with pytest.raises(ValueError, match="neither an IP address nor a network"):
        affected(zone(*lines), "east")


def test_reverse_names() -> None:
    assert str(reverse_address("10.100.51.198.in-addr.arpa.")) == "198.51.100.10/32"
    nibbles = ".".join(reversed("20010db8000100000000000000000010"))
    assert str(reverse_address(f"{nibbles}.ip6.arpa.")) == "2001:db8:1::10/128"
    assert reverse_address("100.51.198.in-addr.arpa.") is None
    records = zone("10.100.51.198.in-addr.arpa. PTR mail.shop.example.")
    assert affected(records, OLD)[0].literal is False
    assert "make one for the new address" in str(follow_ups(records, OLD)[0])


def test_follow_ups_for_a_person() -> None:
    notes = {
        f"{one.name} {one.rtype}": one.why
        for one in follow_ups(
            zone(
                f"mail A {OLD}", f"ns1 A {OLD}", "@ NS ns1.shop.example.",
                '2009._domainkey TXT "v=DKIM1; p=abc"', "_25._tcp.mail TLSA 3 1 1 abcd",
                "mail SSHFP 1 1 abcd", f'note TXT "our address is {OLD}"',
                "_25._tcp.other TLSA 3 1 1 abcd",
            ),
            OLD,
        )
    }
    assert set(notes) == {
        "shop.example. NS", "2009._domainkey.shop.example. TXT", "mail.shop.example. SSHFP",
        "_25._tcp.mail.shop.example. TLSA", "note.shop.example. TXT",
    }
    assert "glue at the parent" in notes["shop.example. NS"]


MAP = AddressMap.build([OLD, "2001:db8:1::10"], [NEW, "2001:db8:2::10"])


@pytest.mark.parametrize(
    ("rtype", "old", "new"),
    [
        ("A", OLD, NEW),
        ("A", "198.51.100.1", "198.51.100.1"),
        ("AAAA", "2001:db8:1::10", "2001:db8:2::10"),
        ("HTTPS", f'1 . alpn="h2" ipv4hint="{OLD},192.0.2.1" ipv6hint="2001:db8:1::10"',
         f'1 . alpn="h2" ipv4hint="{NEW},192.0.2.1" ipv6hint="2001:db8:2::10"'),
        ("HTTPS", f'1 . ipv4hint="{OLD},{NEW}"', f'1 . ipv4hint="{NEW}"'),
        ("TXT", f'"v=spf1 +ip4:{OLD} ip4:{OLD}/32 ip6:2001:db8:1::10 ip4:198.51.100.100 -all"',
         f'"v=spf1 +ip4:{NEW} ip4:{NEW}/32 ip6:2001:db8:2::10 ip4:198.51.100.100 -all"'),
        ("TXT", f'"v=spf1 ip4:{OLD[:5]}" "{OLD[5:]} -all"', f'"v=spf1 ip4:{NEW} -all"'),
        ("TXT", f'"about {OLD}"', f'"about {OLD}"'),
        ("URI", f'1 1 "http://{OLD}/"', f'1 1 "http://{OLD}/"'),
    ],
)
def test_addresses_are_replaced_where_they_stand(rtype: str, old: str, new: str) -> None:
    assert rewrite(rtype, old, MAP.translate) == new


def test_a_long_text_is_cut_into_strings_again() -> None:
    text = "v=spf1 " + " ".join(f"ip4:192.0.2.{n}" for n in range(60)) + r" exp=\"\032x"
    rdata = txt_rdata(text)
    assert txt_text(rdata) == text
    assert rdata.count('" "') == 3


def test_networks_move_with_their_host_bits() -> None:
    nets = AddressMap.build("198.51.100.0/24", "203.0.113.0/24")
    assert rewrite("A", "198.51.100.77", nets.translate) == "203.0.113.77"
    assert rewrite("TXT", '"v=spf1 ip4:198.51.100.0/24 ~all"', nets.translate) == (
        '"v=spf1 ip4:203.0.113.0/24 ~all"'
    )
    six = AddressMap.build("::/112", "2001:db8::/112")
    assert rewrite("AAAA", "::5", six.translate) == "2001:db8::5"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OLD, "2001:db8::1", "do not mix"),
        ([OLD], [NEW, NEW], "1 addresses in `from` but 2 in `to`"),
        ([OLD, "192.0.2.1"], {OLD: NEW}, "no address for 192.0.2.1"),
        ([OLD], {OLD: NEW, "192.0.2.1": NEW}, "not in `from`"),
        ("198.51.100.0/24", NEW, "not of the same size"),
        (OLD, OLD, "overlap"),
        ("east", NEW, "neither an IP address"),
        ([], [], "names no address"),
    ],
)
def test_addresses_that_do_not_pair_are_refused(old: object, new: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AddressMap.build(old, new)  # type: ignore[arg-type]


def test_what_would_stay_behind_blocks_the_move() -> None:
    v4 = AddressMap.build(OLD, NEW)
    records = zone(
        f"www A {OLD}", "www AAAA 2001:db8:1::10", f'web HTTPS 1 . ipv4hint="{OLD}"',
        'wide TXT "v=spf1 ip4:198.51.100.0/24 -all"', f'u URI 1 1 "http://{OLD}/"',
        f"pool A {OLD}", "pool A 192.0.2.1",
    )
    result = rewriting(records, v4)
    assert {change.key[0] for change in result.changes} == {
        "www.shop.example.", "web.shop.example.", "pool.shop.example."
    }
    blocked = " ".join(result.blocked)
    assert "www.shop.example. AAAA keeps 2001:db8:1::10" in blocked
    assert "wide.shop.example. TXT" in blocked
    assert "u.shop.example. URI" in blocked
    assert len(result.blocked) == 3
    left = {"www.shop.example. AAAA", "wide.shop.example.", "u.shop.example. URI"}
    assert rewriting(records, v4, leave=left).blocked == ()


def test_a_hint_of_the_other_family_blocks_too() -> None:
    v4 = AddressMap.build(OLD, NEW)
    records = zone(
        f"www A {OLD}", f'www HTTPS 1 . ipv4hint="{OLD}" ipv6hint="2001:db8:1::10"'
    )
    assert "HTTPS keeps 2001:db8:1::10" in rewriting(records, v4).blocked[0]
    assert rewriting(records, MAP).blocked == ()


def test_literals_by_type() -> None:
    assert [str(n) for n in literals("CAA", '0 iodef "http://[2001:db8::1]/"')] == [
        "2001:db8::1/128"
    ]
    assert literals("MX", f"10 {OLD}") == ()
