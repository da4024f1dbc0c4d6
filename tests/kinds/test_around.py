"""What the kinds around a move read and conclude. What they do to real daemons is in the lab."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from runbook.errors import Errored, Refused
from runbook.kinds._capacity import meets
from runbook.kinds.alerts_silence import AlertsSilence, AlertsUnsilence
from runbook.kinds.capacity_check import CapacityCheck
from runbook.kinds.cron_hold import _FIND_SPOOL, _PROCESSES, CronHold
from runbook.kinds.nginx_maintenance import NginxMaintenance, honours
from runbook.model.inventory import Host
from runbook.model.ports import CertificateState, CommandResult, HttpResponse
from tests.kinds.fakes import FakeHost, FakeNet, FakeReads

FLAG = "/run/shop/closed.on"


@pytest.mark.parametrize(("text", "found"), [
    (f"if (-f {FLAG}) {{ return 503; }}", True),
    (f"if ( -f \"{FLAG}\" ) {{", True),
    (f"if (-e '{FLAG}')\n{{", True),
    (f"# if (-f {FLAG}) {{", False),
    (f"listen 80; # if (-f {FLAG})", False),
    (f"if (!-f {FLAG}) {{", False),
    (f"if (-f {FLAG}.old) {{", False),
    ("if (-f /run/shop/closedXon) {", False),
    (f"root {FLAG};", False),
])
def test_whether_a_configuration_honours_a_flag(text: str, found: bool) -> None:
    assert honours(f"http {{\n{text}\n}}\n", FLAG) is found


PAGE = """<link rel=stylesheet href=/f/a.css><script src="b.js"></script><img src="data:x">
<img src="https://cdn.example/v.png"><link rel=canonical href=/c><a href=/orders>o</a>"""


def page(status: int, body: str = "", **headers: str) -> HttpResponse:
    return HttpResponse(status=status, url="u", body=body, headers=headers)


@pytest.mark.parametrize(("answers", "said"), [
    ([page(503, PAGE, **{"Retry-After": "60"}), page(200), page(200)],
     "2 files of the fallback pages load; not asked for, on other hosts: cdn.example"),
    ([page(503, PAGE, **{"Retry-After": "60"}), page(200), page(503)],
     "http://shop.example/f/b.js does not load (503)"),
    ([page(503)], "the answer has no Retry-After"),
    ([page(200)], "status 200, not 503"),
    ([HttpResponse(status=0, url="u", error="connection refused")], "connection refused"),
])
def test_a_fallback_page_counts_with_all_that_it_loads(
    answers: list[HttpResponse], said: str
) -> None:
    kind = NginxMaintenance.model_validate({"flag": FLAG, "url": "http://shop.example/f/"})
    conf = CommandResult(exit_code=0, stdout=f"if (-f {FLAG}) {{")
    net = FakeNet(answers)
    seen = kind.observe(FakeReads(here=FakeHost(Host(name="web", address="x"),
                                                {"nginx -T": conf}), net=net))
    there = seen.model_copy(update={"state": {"exists": True, "kind": "file"}})
    verdict = kind.verify(seen, there)
    assert said in verdict.seen and verdict.ok == ("2 files" in said)
    assert {one["via"] for one in net.asked} == {"web"}
    assert {one["connect_to"] for one in net.asked} == {"127.0.0.1"}


def test_nginx_that_cannot_show_its_configuration_is_not_guessed_about() -> None:
    kind = NginxMaintenance.model_validate({"flag": FLAG, "url": "http://shop.example/"})
    seen = kind.observe(FakeReads())
    with pytest.raises(Errored, match="does not show the configuration: exit status 1"):
        kind.plan(seen)
    hidden = kind.model_copy(update={"pages": "hidden"})
    assert hidden.plan(seen).reason == f"already done: there is no {FLAG}"


# -- cron ------------------------------------------------------------------------------------------

PS = """\
    1     0 9000 tini            root  tini
   20     1 8000 cron            root  /usr/sbin/cron -f
   30    20   70 cron            root  /usr/sbin/CRON -f
   31    30   70 sh              shop  /bin/sh -c TOKEN=hush /usr/local/bin/report --password hush
   32    31   69 report          shop  report
   40    20    5 cron            root  /usr/sbin/CRON -f
   41    40    5 backup          other backup
   45    20    0 cron            root  /usr/sbin/CRON -f
   50     1   70 sh              shop  sh -c /usr/local/bin/report
"""
TAB = """\
# comment
MAILTO = ops
17 * * * * shop run-parts
@reboot other /bin/true
"""


def test_running_jobs_are_those_of_cron_for_these_users() -> None:
    """Told by their program alone: arguments may hold what is nobody's business."""
    answers = {
        _FIND_SPOOL: CommandResult(exit_code=0, stdout="/var/spool/cron\n"),
        _PROCESSES: CommandResult(exit_code=0, stdout=PS),
    }
    kind = CronHold.model_validate({"users": "shop", "missing": "ignore"})
    seen = kind.observe(FakeReads(here=FakeHost(answers=answers)))
    assert seen.evidence["running"] == [
        "/usr/local/bin/report of shop (process 31, for 1m 10s)",
        "a job that is just starting (process 45)",
    ]
    assert "hush" not in str(seen)


def test_whose_jobs_a_file_of_cron_d_has() -> None:
    from runbook.kinds.cron_hold import _users_of

    host = FakeHost(answers={"cat -- /etc/cron.d/x": CommandResult(exit_code=0, stdout=TAB)})
    assert _users_of(host, "/etc/cron.d/x", "in place") == {"shop", "other"}


def test_a_ps_that_cannot_tell_is_no_proof_that_nothing_runs() -> None:
    kind = CronHold.model_validate({"users": "shop", "missing": "ignore", "wait": True})
    answers = {_FIND_SPOOL: CommandResult(exit_code=0, stdout="/var/spool/cron\n")}
    seen = kind.observe(FakeReads(here=FakeHost(answers=answers)))
    verdict = kind.verify(seen, seen)
    assert not verdict.ok and not verdict.retry and "cannot be seen" in verdict.seen


@pytest.mark.parametrize("given", [
    {}, {"files": "/etc/crontab"}, {"files": "cron.d/x"}, {"users": "a b"}, {"users": "-r"},
])
def test_what_cannot_be_held_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CronHold.model_validate(given)


# -- alerts ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", [
    {"matchers": "site"}, {"matchers": "site~east"}, {}, {"matchers": "a=b", "extend": "x"},
])
def test_matchers_are_checked_before_anything_starts(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AlertsSilence.model_validate({"url": "http://a", "for": "1h", **given})


def test_an_answer_that_is_cut_off_or_no_alertmanager_is_no_answer() -> None:
    kind = AlertsSilence.model_validate({"url": "http://a", "for": "1h", "matchers": 'a="b"'})
    for body in ('[{"id": "1", "sta', "<html>", '{"status": "ok"}'):
        with pytest.raises(Errored, match="more silences than can be read at once"):
            kind.observe(FakeReads(net=FakeNet([page(200, body)])))


def test_a_silence_that_would_be_over_is_refused() -> None:
    kind = AlertsSilence.model_validate(
        {"url": "http://a", "until": 1.5e9, "matchers": 'a="b"'})
    with pytest.raises(Refused, match="past"):
        kind.plan(kind.observe(FakeReads(net=FakeNet([page(200, "[]")]), time=2e9)))


def test_ending_goes_by_the_mark_where_the_silence_step_failed() -> None:
    """`FakeReads` has no outputs: whatever that step may have made is still found."""
    kind = AlertsUnsilence.model_validate({"url": "http://a/", "of": "quiet"})
    body = ('[{"id": "1", "status": {"state": "active"}, "comment": "[runbook run/quiet]", '
            '"matchers": [], "startsAt": "", "endsAt": "", "createdBy": ""}, '
            '{"id": "2", "status": {"state": "active"}, "comment": "[runbook run/quieter]"}]')
    planned = kind.plan(kind.observe(FakeReads(net=FakeNet([page(200, body)]))))
    assert [(one.method, one.url) for one in planned.actions  # type: ignore[union-attr]
            ] == [("DELETE", "http://a/api/v2/silence/1")]


# -- capacity --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("version", "wanted", "ok"), [
    ("15.9", ">=15", True), ("15.9", ">=15.10", False), ("15.10", ">=15.9", True),
    ("1:9.18.33-1~deb12u2", ">=9.18", True), ("1:9.18.33", ">=10", False),
    ("3.2.7-1", ">3.2.7", False), ("3.2", "==3", True), ("3.2", "=3.2.0", False),
    ("2.0", ">=2,<3", True), ("3.0", ">=2,<3", False), ("2.0", "!=2", False),
    ("none", ">=1", False),
    ("2", ">=2.0.0", True),
])
def test_versions_are_compared_by_their_numbers(version: str, wanted: str, ok: bool) -> None:
    assert meets(version, wanted) is ok


@pytest.mark.parametrize("given", [
    {}, {"disk": {}}, {"like": "west"}, {"disk": {"/": "lots"}}, {"programs": {"a": "15"}},
    {"packages": {"a": "same"}}, {"certificates": {"a": "b"}}, {"memory": True},
])
def test_conditions_are_checked_before_anything_starts(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CapacityCheck.model_validate(given)


def test_one_thing_that_cannot_be_seen_does_not_hide_the_others() -> None:
    kind = CapacityCheck.model_validate({"memory": "1K", "certificates": {"a": "b:1"}})
    answers = {"cat /proc/meminfo": CommandResult(exit_code=0, stdout="nothing\n")}
    good = CertificateState(names=("a",), issuer="ca", not_before=0, not_after=9e9)
    reads = FakeReads(here=FakeHost(answers=answers), net=FakeNet(certificates={"a": good}))
    seen = kind.observe(reads)
    verdict = kind.verify(seen, seen)
    assert not verdict.ok and "1 of 2 are not enough: memory: cannot be seen" in verdict.seen
    assert seen.unknown
