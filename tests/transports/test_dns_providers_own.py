"""What is particular to one provider: what it keeps beside a set, what it cannot do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import Errored, NotFound
from runbook.kinds.dns_flip import DnsFlip
from runbook.kinds.dns_ttl import DnsTtl
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change, RRset, Zone
from runbook.transports.dns import DnsTransport
from runbook.transports.dns.cloudflare_records import fields_of, rdata_of
from tests.dns_lab import KEY, NEW, NEW6, OLD, OLD6
from tests.transports.cloudflare_double import ZONE_ID, CloudflareDouble
from tests.transports.dns_backends import (
    AWS_KEYS,
    PDNS,
    Backend,
    cloudflare,
    made,
    powerdns,
    real_powerdns,
    route53,
)
from tests.transports.powerdns_double import API_KEY, PowerDnsDouble
from tests.transports.route53_double import ACCESS_KEY, SECRET_KEY, Route53Double

MAIL = RRset(name="mail.shop.example.", rtype="A", ttl=3600, rdatas=(OLD,))
MOVED = MAIL.model_copy(update={"rdatas": (NEW,)})


@pytest.fixture
def pdns(tmp_path: Path) -> Iterator[Backend]:
    with powerdns(tmp_path) as found:
        yield found


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Backend]:
    with cloudflare(tmp_path) as found:
        yield found


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Backend]:
    with route53(tmp_path) as found:
        yield found


# PowerDNS


def test_disabled_records_and_comments_outlive_a_change(pdns: Backend) -> None:
    assert isinstance(pdns.double, PowerDnsDouble)
    stored = pdns.double.sets[MAIL.key]
    off = {"content": "192.0.2.200", "disabled": True}
    stored["records"].append(off)
    stored["comments"] = [{"content": "the old machine", "account": "ada"}]
    assert pdns.get(*MAIL.key) == MAIL, "what is disabled is not served"
    assert pdns.perform(Change(before=MAIL, after=MOVED)).ok
    now = pdns.double.sets[MAIL.key]
    assert off in now["records"]
    assert now["comments"] == stored["comments"]
    assert pdns.perform(Change(before=MOVED, after=None)).ok
    assert pdns.double.sets[MAIL.key]["records"] == [off]
    assert pdns.get(*MAIL.key) is None
    assert pdns.perform(Change(before=None, after=MAIL)).ok
    assert off in pdns.double.sets[MAIL.key]["records"]


def test_types_of_powerdns_alone_are_left_out(pdns: Backend) -> None:
    assert isinstance(pdns.double, PowerDnsDouble)
    for rtype in ("LUA", "ALIAS"):
        pdns.double.sets[("lua.shop.example.", rtype)] = {
            "name": "lua.shop.example.", "type": rtype, "ttl": 60, "comments": [],
            "records": [{"content": 'A "ifportup(443)"', "disabled": False}],
        }
    assert pdns.dns.records(pdns.zone) == pdns.records


def test_its_own_spelling_is_taken_over_only_where_it_means_the_same(
    pdns: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    https = RRset(name="new.shop.example.", rtype="HTTPS", ttl=60, rdatas=('1 . alpn="h2"',))
    assert pdns.perform(Change(before=None, after=https)).ok
    assert pdns.get(*https.key) == https
    assert pdns.double is not None
    before = pdns.double.changes()
    monkeypatch.setattr(
        "tests.transports.powerdns_double._spelled", lambda rtype, text: "192.0.2.250"
    )
    result = pdns.perform(Change(before=MAIL, after=MOVED))
    assert not result.ok
    assert "Not in expected format" in result.detail
    assert pdns.double.changes() == before + 1, "refused once, and not tried in other words"


def test_powerdns_wants_its_address_and_a_key(pdns: Backend) -> None:
    for missing, words in (("endpoint", "no `endpoint:`"), ("key", "names no key")):
        zone = pdns.zone.model_copy(update={missing: None})
        with pytest.raises(Errored, match=words):
            pdns.dns.records(zone)
    elsewhere = pdns.zone.model_copy(update={"zone_id": "other.example."})
    with pytest.raises(Errored, match="answered 404"):
        pdns.dns.records(elsewhere)
    no_url = pdns.zone.model_copy(update={"endpoint": "ftp://127.0.0.1"})
    with pytest.raises(Errored, match="not the URL of an API"):
        pdns.dns.records(no_url)


def test_a_key_that_cannot_be_one_is_not_sent_or_shown(pdns: Backend) -> None:
    with pytest.raises(Errored, match="characters that no key has") as caught:
        pdns.transport("two\nlines-of-secret").records(pdns.zone)
    assert "lines-of-secret" not in str(caught.value)


# Cloudflare


def test_a_record_is_patched_in_place_and_keeps_its_comment(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    [ident] = cloud.double.idents(*MAIL.key)
    cloud.double.records[ident]["comment"] = "the old machine"
    assert cloud.perform(Change(before=MAIL, after=MOVED.with_ttl(90))).ok
    record = cloud.double.records[ident]
    assert (record["content"], record["ttl"]) == (NEW, 90)
    assert record["comment"] == "the old machine"


def test_an_automatic_ttl_counts_as_what_is_served(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    cloud.double.put(MAIL.with_ttl(1))
    assert cloud.get(*MAIL.key) == MAIL.with_ttl(300)
    assert cloud.perform(Change(before=MAIL.with_ttl(300), after=MAIL.with_ttl(60))).ok


def test_a_set_with_several_ttls_counts_as_having_the_greatest(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    api = RRset(name="api.shop.example.", rtype="A", ttl=600, rdatas=("192.0.2.99", OLD))
    cloud.double.put(api)
    cloud.double.records[cloud.double.idents(*api.key)[0]]["ttl"] = 120
    assert cloud.get(*api.key) == api
    assert cloud.perform(Change(before=api, after=api.with_ttl(300))).ok
    assert {cloud.double.records[i]["ttl"] for i in cloud.double.idents(*api.key)} == {300}


def test_a_proxied_record_is_read_and_never_changed(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    [ident] = cloud.double.idents(*MAIL.key)
    cloud.double.records[ident] |= {"proxied": True, "ttl": 1}
    seen = cloud.get(*MAIL.key)
    assert seen == MAIL.with_ttl(300)
    other = RRset(name="other.shop.example.", rtype="A", ttl=3600, rdatas=("192.0.2.77",))
    result = cloud.perform(
        Change(before=other, after=None), Change(before=seen, after=MOVED)
    )
    assert not result.ok
    assert "mail.shop.example. A is proxied by Cloudflare" in result.detail
    assert cloud.double.changes() == 0


def test_a_silently_clamped_ttl_is_found_and_stands_for_what_was_asked(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    cloud.double.silent = True
    low = Change(before=MAIL, after=MOVED.with_ttl(30))
    result = cloud.perform(low)
    assert result.ok
    assert result.data["clamped"] == {"mail.shop.example. A": 60}
    assert "TTL made another by the server: mail.shop.example. A 60" in result.detail
    assert cloud.perform(low).data["already"] is True, "a repeat knows it again"
    action = ChangeRecordSet(zone="shop.example.", changes=(low,))
    assert cloud.dns.resolve_change(action, KEY).outcome == "done"
    assert cloud.perform(low.reversed).ok, "and the way back is open"
    assert cloud.get(*MAIL.key) == MAIL


def test_a_clamp_excuses_nothing_but_the_floor(cloud: Backend) -> None:
    assert isinstance(cloud.double, CloudflareDouble)
    cloud.double.put(MAIL.with_ttl(61))
    assert not cloud.perform(Change(before=MAIL.with_ttl(30), after=MOVED)).ok
    refused = cloud.perform(Change(before=MAIL.with_ttl(61), after=MOVED.with_ttl(30)))
    assert not refused.ok
    assert "Invalid TTL" in refused.detail


def test_a_record_that_went_meanwhile_is_drift(cloud: Backend) -> None:
    double = cloud.double
    assert isinstance(double, CloudflareDouble)
    double.meanwhile = lambda: double.records.pop(double.idents(*MAIL.key)[0]) and None
    result = cloud.perform(Change(before=MAIL, after=MOVED))
    assert not result.ok
    assert "now no such set" in result.detail


def test_a_zone_is_found_by_name_or_given(cloud: Backend) -> None:
    given = cloud.zone.model_copy(update={"zone_id": ZONE_ID})
    assert cloud.dns.records(given) == cloud.records
    assert cloud.double is not None
    assert ("GET", "/zones?name=shop.example") not in cloud.double.log
    stranger = cloud.zone.model_copy(update={"name": "nope.example."})
    with pytest.raises(Errored, match=r"0 zones named nope\.example\."):
        cloud.dns.records(stranger)


@pytest.mark.parametrize(
    ("record", "rdata"),
    [
        ({"type": "TXT", "content": 'old "style" \\ text'}, '"old \\"style\\" \\\\ text"'),
        ({"type": "TXT", "content": '"a" "b"'}, '"a" "b"'),
        ({"type": "CNAME", "content": "Shop.Example"}, "shop.example."),
        ({"type": "CAA", "content": '0 issue "ca"', "data":
            {"flags": 0, "tag": "issue", "value": "ca"}}, '0 issue "ca"'),
        ({"type": "URI", "priority": 10, "content": "1 x", "data":
            {"weight": 1, "target": "https://a.example/"}}, '10 1 "https://a.example/"'),
        ({"type": "SSHFP", "content": "", "data":
            {"algorithm": 4, "type": 2, "fingerprint": "AB" * 32}}, "4 2 " + "ab" * 32),
        ({"type": "DS", "content": "1 13 2 " + "AB" * 32}, "1 13 2 " + "ab" * 32),
    ],
)
def test_records_are_read_from_every_shape(record: dict[str, object], rdata: str) -> None:
    assert rdata_of(record) == rdata


def test_what_is_not_written_is_said(cloud: Backend) -> None:
    with pytest.raises(ValueError, match="type NAPTR are not written"):
        fields_of("NAPTR", '1 1 "s" "x" "" a.example.')
    loc = RRset(
        name="x.shop.example.", rtype="LOC", ttl=60,
        rdatas=("52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000.00m 10.00m",),
    )
    result = cloud.perform(Change(before=None, after=loc))
    assert "nothing was sent" in result.detail
    assert not result.ok
    assert fields_of("TLSA", "3 1 1 " + "ab" * 32)["data"]["certificate"] == "ab" * 32


# Route 53


def test_sets_of_another_policy_are_read_as_one_and_never_changed(aws: Backend) -> None:
    assert isinstance(aws.double, Route53Double)
    for region, address in (("eu-west-1", OLD), ("us-east-1", "192.0.2.99")):
        aws.double.put(
            RRset(name="w.shop.example.", rtype="A", ttl=60, rdatas=(address,)),
            SetIdentifier=region, Region=region,
        )
    both = RRset(name="w.shop.example.", rtype="A", ttl=60, rdatas=("192.0.2.99", OLD))
    assert aws.get(*both.key) == both
    assert both in aws.dns.records(aws.zone)
    result = aws.perform(Change(before=both, after=both.with_ttl(30)))
    assert not result.ok
    assert "no plain set (Region, SetIdentifier" in result.detail
    assert aws.double.changes() == 0


def test_an_alias_is_left_out_and_nothing_is_made_over_it(aws: Backend) -> None:
    assert isinstance(aws.double, Route53Double)
    aws.double.put_alias("lb.shop.example.", "dualstack.lb.example.")
    assert aws.dns.records(aws.zone) == aws.records
    over = RRset(name="lb.shop.example.", rtype="A", ttl=60, rdatas=(NEW,))
    result = aws.perform(Change(before=None, after=over))
    assert not result.ok
    assert "no plain set (AliasTarget)" in result.detail


def test_unusual_characters_are_octal_there(aws: Backend) -> None:
    assert isinstance(aws.double, Route53Double)
    text = RRset(name="t.shop.example.", rtype="TXT", ttl=60, rdatas=('"caf\\233 \\001"',))
    assert aws.perform(Change(before=None, after=text)).ok
    [stored] = aws.double.sets[("t.shop.example.", "TXT", "")]["Values"]
    assert stored == '"caf\\351 \\001"'
    assert aws.get(*text.key) == text


def test_its_own_spelling_is_given_back_to_delete(aws: Backend) -> None:
    """A DELETE matches text, so what is sent is the text that was read."""
    assert isinstance(aws.double, Route53Double)
    odd = RRset(name="odd.shop.example.", rtype="AAAA", ttl=60,
                rdatas=("2001:DB8:0:0::1", "2001:db8::2"))
    aws.double.put(odd)
    canonical = odd.model_copy(update={"rdatas": ("2001:db8::1", "2001:db8::2")})
    assert aws.get(*odd.key) == canonical
    assert aws.perform(Change(before=canonical, after=canonical.with_ttl(30))).ok
    values = aws.double.sets[("odd.shop.example.", "AAAA", "")]["Values"]
    assert "2001:DB8:0:0::1" in values, "and the record that stays is spelled as it was"


def test_the_public_zone_of_that_name_is_taken(aws: Backend) -> None:
    assert isinstance(aws.double, Route53Double)
    aws.double.private_twin = True
    assert aws.dns.records(aws.zone) == aws.records
    nope = aws.zone.model_copy(update={"name": "nope.example."})
    with pytest.raises(Errored, match="0 public hosted zones"):
        aws.dns.records(nope)
    wrong = aws.zone.model_copy(update={"name": "x.example.", "zone_id": "ZWRONG"})
    with pytest.raises(Errored, match="NoSuchHostedZone"):
        aws.dns.records(wrong)


def test_without_a_key_the_environment_is_asked(
    aws: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = aws.zone.model_copy(update={"key": None})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                 "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Errored, match="Unable to locate credentials"):
        made(bare, "", aws.records).dns.records(bare)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert made(bare, "", aws.records).dns.records(bare) == aws.records


def test_keys_that_are_no_pair_are_not_shown(aws: Backend) -> None:
    with pytest.raises(Errored, match="no pair of AWS keys") as caught:
        aws.transport("only-one-part").records(aws.zone)
    assert "only-one-part" not in str(caught.value) + caught.value.hint


def test_without_boto3_the_extra_is_named(
    aws: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(NotFound, match="needs boto3") as caught:
        aws.transport(AWS_KEYS).records(aws.zone)
    assert "runbook[route53]" in caught.value.hint


def test_boto3_is_imported_by_nobody_else() -> None:
    code = "import sys, runbook.transports.world; print('boto3' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


# The kinds on top of a provider without compare-and-swap, and DNS itself to verify


class Looks:
    """The part of Reads that DNS kinds use."""

    def __init__(self, dns: DnsTransport) -> None:
        self.dns = dns

    def now(self) -> float:
        return time.time()


@pytest.mark.lab
@pytest.mark.skipif(PDNS is None, reason="PowerDNS is not installed (package pdns-server)")
def test_lower_flip_and_back_on_powerdns_itself(tmp_path: Path) -> None:
    with real_powerdns(tmp_path) as backend:
        reads, nobody = Looks(backend.dns), ("192.0.2.53", "192.0.2.54")
        lower = DnsTtl(
            zone="shop.example", points_at=(OLD, OLD6), ttl=60, except_servers=nobody
        )
        flip = DnsFlip.model_validate({
            "zone": "shop.example", "from": [OLD, OLD6], "to": [NEW, NEW6],
            "except_servers": nobody,
        })
        befores = []
        for kind in (lower, flip):
            before = kind.observe(reads)  # type: ignore[arg-type]
            assert "read again right before" in before.evidence["provider"]["caution"]
            for action in kind.plan(before).actions:
                assert isinstance(action, ChangeRecordSet)
                result = backend.dns.perform(action, KEY)
                assert result.ok, result.detail
            verdict = kind.verify(before, kind.observe(reads))  # type: ignore[arg-type]
            assert verdict.ok, verdict.seen
            befores.append(before)
        assert OLD not in str(backend.dns.records(backend.zone))
        for kind, before in ((flip, befores[1]), (lower, befores[0])):
            actions = kind.undo(before)
            assert isinstance(actions, tuple)
            for action in actions:
                assert isinstance(action, ChangeRecordSet)
                assert backend.dns.perform(action, KEY).ok
        assert backend.dns.records(backend.zone) == backend.records


@pytest.mark.lab
@pytest.mark.skipif(PDNS is None, reason="PowerDNS is not installed (package pdns-server)")
def test_the_double_says_what_powerdns_itself_says(tmp_path: Path) -> None:
    """Refusals that the double claims, word for word from the real server."""
    beside = RRset(name="www.shop.example.", rtype="A", ttl=300, rdatas=(NEW,))
    told = []
    for number, start in enumerate((powerdns, real_powerdns)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with start(folder) as backend:
            told.append(backend.perform(Change(before=None, after=beside)).detail)
            with pytest.raises(Errored, match="refuses our key \\(401"):
                backend.transport(API_KEY[::-1]).records(backend.zone)
    assert told[0] == told[1]
    assert "Conflicts with pre-existing RRset" in told[0]


def test_a_zone_needs_a_provider_that_exists(pdns: Backend) -> None:
    with pytest.raises(NotFound, match="no DNS provider 'pigeon'"):
        pdns.dns.records(Zone(name="shop.example.", provider="pigeon"))
