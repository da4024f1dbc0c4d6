"""Zones that BIND signs, in place or as a copy, moved by whole runbooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.errors import ExitCode
from runbook.model.dns import Change
from tests.lab.dns_moves import (
    SECRETS,
    axfr,
    change,
    move,
    one,
    records,
    steps,
    take_back,
    zone,
)
from tests.lab.lab import Lab
from tests.lab.names import PRIMARY, SECONDARY
from tests.lab.needs import marks
from tests.lab.processes import wait_for
from tests.lab.zone_texts import MORE, NEW, NEW6, OLD, OLD6, RICH

pytestmark = marks


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(RICH, more_zones=MORE) as lab:
        wait_for("signed zones are signed everywhere", lambda: all(
            any(" 13 2 " in line for line in lab.dig("+dnssec", f"@{server}", name, "A"))
            for server in (PRIMARY, SECONDARY) for name in ("signed.example", "inline.example")
        ))
        yield lab


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


SIGNED = ("signed.example", "inline.example")
KEPT_BY_THE_SERVER = {
    "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "TYPE65534", "SOA",
}


def validated(lab: Lab, name: str, rtype: str) -> str:
    """What delv(1) says of an answer, with the zone's own key as the trust anchor."""
    _, _, algorithm, *key = lab.dig(f"@{PRIMARY}", name, "DNSKEY")[0].split()
    anchor = lab.folder / f"{name}.anchor"
    anchor.write_text(
        f'trust-anchors {{ {name}. static-key 257 3 {algorithm} "{"".join(key)}"; }};\n'
    )
    return lab.run(
        "control", "delv", f"@{PRIMARY}", "-a", str(anchor), f"+root={name}", name, rtype,
        check=False,
    ).stdout


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_zone_moves_and_is_valid_at_every_moment(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    before = axfr(lab, name)
    assert {rtype for _, rtype in records(lab, zone(name))} & KEPT_BY_THE_SERVER == set()
    assert f"; fully validated\n{name}." in validated(lab, name, "A")
    done = move(lab, tmp_path, steps(name))
    assert done.driven.exit_code is ExitCode.OK, done.log
    assert not {key.split()[1] for step in ("lower", "flip", "restore")
                for key in done.changed(step)} & KEPT_BY_THE_SERVER
    assert axfr(lab, name) == "\n".join(
        sorted(before.replace(OLD, NEW).replace(OLD6, NEW6).splitlines())
    )
    for rtype, address in (("A", NEW), ("AAAA", NEW6)):
        answer = validated(lab, name, rtype)
        assert "; fully validated\n" in answer
        assert f"\t{address}\n" in answer
    back = take_back(lab, tmp_path, done)
    assert back.driven.exit_code is ExitCode.ROLLED_BACK, back.log
    assert axfr(lab, name) == before
    answer = validated(lab, name, "A")
    assert "; fully validated\n" in answer
    assert f"\t{OLD}\n" in answer


@pytest.mark.parametrize("name", SIGNED)
def test_somebody_elses_change_of_a_signed_zone_is_drift(lab: Lab, name: str) -> None:
    """Signed or not, a change goes by what the set was; its TTL too."""
    mine = Change(before=one(f"mail.{name}.", "A", OLD), after=one(f"mail.{name}.", "A", NEW))
    theirs = Change(before=mine.before, after=one(f"mail.{name}.", "A", OLD, ttl=9))
    assert change(lab, theirs, name=name).ok
    refused = change(lab, mine, name=name)
    assert not refused.ok
    assert "(TTL 9), the plan saw" in refused.detail
    assert change(lab, theirs.reversed, name=name).ok
