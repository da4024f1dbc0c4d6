"""The bridge to octoDNS: whole zones in, exactly what was asked out, or nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import Errored, InDoubt, NotFound
from runbook.model.dns import Change, RRset, Zone
from tests.dns_lab import NEW, OLD
from tests.transports.dns_backends import NAMED, Backend, made, octodns

WWW = RRset(name="www.shop.example.", rtype="A", ttl=300, rdatas=(OLD,))
MOVED = WWW.model_copy(update={"rdatas": (NEW,)})
TEXT = RRset(name="t.shop.example.", rtype="TXT", ttl=60, rdatas=('"back\\\\slash"',))


def backend(**options: Any) -> Backend:
    zone = Zone(
        name="shop.example.", provider="octodns",
        provider_class="tests.transports.octodns_memory.Memory", options=options,
        keys={"token": "api"},
    )
    return made(zone, "letmein", ())


@pytest.fixture
def memory() -> Iterator[Any]:
    from tests.transports.octodns_memory import Memory

    Memory.store.clear()
    Memory.reads.clear()
    for number in range(12):
        Memory.store[(f"h{number}", "A")] = {"type": "A", "ttl": 60, "values": ["192.0.2.1"]}
    Memory.store[("www", "A")] = {"type": "A", "ttl": 300, "values": [OLD]}
    yield Memory
    Memory.meanwhile = None


def test_the_zone_is_read_right_before_it_is_written(memory: Any) -> None:
    there = backend()
    assert there.perform(Change(before=WWW, after=MOVED)).ok
    assert memory.reads == ["look", "plan", "look"], "then read back"
    assert there.get(*WWW.key) == MOVED


def test_somebody_else_before_the_writing_is_a_conflict(memory: Any) -> None:
    def meddle() -> None:
        memory.store[("www", "A")] = {"type": "A", "ttl": 300, "values": ["192.0.2.66"]}

    memory.meanwhile = meddle
    result = backend().perform(Change(before=WWW, after=MOVED))
    assert not result.ok
    assert "now 192.0.2.66" in result.detail
    assert memory.store[("www", "A")]["values"] == ["192.0.2.66"]


def test_what_others_add_meanwhile_would_be_deleted_and_is_refused(memory: Any) -> None:
    """The whole zone goes in as it was read; a set that came since is missing in it."""
    memory.meanwhile = lambda: memory.store.update(
        {("new", "A"): {"type": "A", "ttl": 60, "values": ["192.0.2.2"]}}
    )
    result = backend().perform(Change(before=WWW, after=MOVED))
    assert not result.ok
    assert "something else in shop.example. than was asked: Delete new.shop.example. A" in (
        result.detail
    )
    assert ("new", "A") in memory.store
    assert memory.store[("www", "A")]["values"] == [OLD]


def test_what_it_keeps_beside_a_set_stays(memory: Any) -> None:
    kept = {"cloudflare": {"proxied": True}}
    memory.store[("www", "A")]["octodns"] = kept
    there = backend()
    assert there.perform(Change(before=WWW, after=MOVED)).ok
    assert memory.store[("www", "A")]["octodns"] == kept
    result = there.perform(Change(before=MOVED, after=None))
    assert not result.ok
    assert "settings of its own at octoDNS (cloudflare)" in result.detail
    assert there.get(*WWW.key) == MOVED


@pytest.mark.filterwarnings("ignore:.*DEPRECATED")
def test_a_set_that_depends_on_who_asks_is_not_changed(memory: Any) -> None:
    memory.store[("www", "A")]["geo"] = {"NA-US": ["192.0.2.7"]}
    result = backend().perform(Change(before=WWW, after=MOVED))
    assert not result.ok
    assert "no plain set (octoDNS: geo)" in result.detail
    assert "plan" not in memory.reads, "nothing was begun"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"least_ttl": 600}, "finds nothing to change in shop.example."),
        ({"settings": "bigger"}, "its settings: {'plan': 'bigger'}"),
    ],
)
def test_less_or_more_than_was_asked_is_refused(
    memory: Any, options: dict[str, Any], words: str
) -> None:
    before = {key: dict(data) for key, data in memory.store.items()}
    result = backend(**options).perform(Change(before=WWW, after=MOVED))
    assert not result.ok
    assert words in result.detail
    assert memory.store == before


def test_where_it_stops_in_the_middle_that_is_told(memory: Any) -> None:
    first = RRset(name="h1.shop.example.", rtype="A", ttl=60, rdatas=("192.0.2.1",))
    both = (
        Change(before=WWW, after=MOVED),
        Change(before=first, after=first.model_copy(update={"rdatas": (NEW,)})),
    )
    with pytest.raises(InDoubt) as caught:
        backend(only=1).perform(*both)
    assert "the line is dead" in caught.value.message
    assert "the plan saw" in caught.value.message
    memory.store[("h1", "A")]["values"] = ["192.0.2.1"]
    with pytest.raises(Errored, match="the zone is unchanged"):
        backend(only=0).perform(*both)


def test_the_zones_own_ns_set_is_left_to_people(memory: Any) -> None:
    memory.store[("", "NS")] = {"type": "NS", "ttl": 60, "values": ["ns1.shop.example."]}
    before = backend().get("shop.example.", "NS")
    assert before is not None
    result = backend().perform(Change(before=before, after=before.with_ttl(30)))
    assert not result.ok
    assert "Root NS record change" in result.detail


def test_a_secret_reaches_its_option_and_no_message(memory: Any) -> None:
    with pytest.raises(Errored, match="does not take its options") as caught:
        backend().transport("wrong-token").records(backend().zone)
    assert "this token opens nothing" in caught.value.message
    assert "wrong-token" not in caught.value.message + caught.value.hint
    with pytest.raises(Errored, match="unexpected keyword argument 'tokn'"):
        backend(tokn=1).dns.records(backend(tokn=1).zone)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("octodns_nowhere.Provider", "No module named 'octodns_nowhere'"),
        ("octodns_bind.Nothing", "has no attribute 'Nothing'"),
        ("octodns_bind.AxfrSource", "is no provider of octoDNS"),
    ],
)
def test_a_class_that_is_not_there_is_named(name: str, words: str) -> None:
    zone = Zone(name="shop.example.", provider="octodns", provider_class=name)
    with pytest.raises(NotFound) as caught:
        made(zone, "", ()).dns.records(zone)
    assert words in caught.value.message
    assert "octodns" in caught.value.hint


def test_without_octodns_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "octodns.provider.base", None)
    with pytest.raises(NotFound) as caught:
        backend().dns.records(backend().zone)
    assert "runbook[octodns]" in caught.value.hint


def test_octodns_is_imported_by_nobody_else() -> None:
    code = "import sys, runbook.transports.world; print('octodns' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def files(folder: Path, cls: str, **options: Any) -> Backend:
    zone = Zone(
        name="shop.example.", provider="octodns", provider_class=cls,
        options={"directory": str(folder), **options},
    )
    return made(zone, "", ())


def test_octodns_own_files_are_changed_in_place(tmp_path: Path) -> None:
    file = tmp_path / "shop.example.yaml"
    file.write_text(
        f"other: {{ttl: 60, type: A, value: {NEW}}}\nwww: {{ttl: 300, type: A, value: {OLD}}}\n"
    )
    there = files(
        tmp_path, "octodns.provider.yaml.YamlProvider", escaped_semicolons=False,
    )
    change = Change(before=WWW, after=MOVED)
    assert there.perform(change).ok
    written = file.read_text()
    assert OLD not in written
    assert written.count(NEW) == 2
    assert there.perform(change).data["already"] is True
    assert there.perform(change.reversed).ok
    assert there.get(*WWW.key) == WWW


def test_a_provider_that_writes_the_whole_zone_anew_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "shop.example.zone"
    file.write_text(
        "$ORIGIN shop.example.\n@ 60 IN SOA ns1 h 1 2 3 4 5\n@ 60 IN NS ns1\n"
        f"www 300 IN A {OLD}\nkept 60 IN TYPE65400 \\# 1 00\n"
    )
    before = file.read_text()
    there = files(tmp_path, "octodns_bind.ZoneFileProvider", file_extension=".zone")
    assert there.get(*WWW.key) == WWW
    result = there.perform(Change(before=WWW, after=MOVED))
    assert not result.ok
    assert "writes whole zones anew" in result.detail
    assert file.read_text() == before


@pytest.mark.lab
@pytest.mark.skipif(NAMED is None, reason="BIND is not installed (package bind9)")
def test_a_text_that_would_not_survive_is_not_sent(tmp_path: Path) -> None:
    with octodns(tmp_path) as bind:
        result = bind.perform(Change(before=None, after=TEXT))
        assert not result.ok
        assert "would become" in result.detail
        assert "nothing was sent" in result.detail
        assert bind.dns.records(bind.zone) == bind.records
