"""States that span steps, on real daemons: cron at sixty times its speed, and Alertmanager."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from runbook.errors import ExitCode
from runbook.model.state import NodeState, RunPhase
from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import marks, without
from tests.lab.processes import wait_for
from tests.lab.runs import Runs
from tests.lab.switchover import BACK, NEW, OLD

pytestmark = [*marks, without("cron"), without("faketime"), without("prometheus-alertmanager")]

ALERTMANAGER = f"http://{MACHINES[NEW]}:9093/alerts"
LOGIN = "Basic " + base64.b64encode(b"ops:only-in-the-lab").decode()
TABS = ("/etc/cron.d/shop", "/var/spool/cron/crontabs/root")
# A minute of cron's is a second; jobs see the real time.
CRON = ('NO_FAKE_STAT=1 setsid faketime -f "+0d x60" cron -f '
        ">>/var/log/cron-lab.log 2>&1 </dev/null &\n")
ALERTS = """\
setsid prometheus-alertmanager --config.file=/etc/alerts-lab.yml --storage.path=/var/lib/alerts \
  --web.config.file=/etc/alerts-web.yml --cluster.listen-address= --web.listen-address=:9093 \
  --web.external-url=http://alerts.example/alerts >>/var/log/alerts.log 2>&1 </dev/null &
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    hashed = bcrypt.hashpw(b"only-in-the-lab", bcrypt.gensalt(4)).decode()
    files = {
        OLD: {
            "/etc/runbook-lab/boot.d/cron": CRON,
            "/etc/cron.d/shop": "# the shop's\nMAILTO=''\n"
            "* * * * * root echo >>/srv/shop; sleep 1\n",
            "/etc/cron.d/witness": "* * * * * root echo >>/srv/witness\n",
            "/srv/tab": "* * * * * echo >>/srv/root\n",
            "/etc/runbook-lab/units/mail.timer": "exec sleep infinity\n",
            "/etc/runbook-lab/enabled/mail.timer": "",
        },
        NEW: {
            "/etc/alerts-lab.yml": "route: {receiver: none}\nreceivers: [{name: none}]\n",
            "/etc/alerts-web.yml": f"basic_auth_users: {{ops: {json.dumps(hashed)}}}\n",
            "/etc/runbook-lab/boot.d/alerts": ALERTS,
        },
    }
    with Lab.open(files=files) as lab:
        lab[OLD].run("crontab -u root /srv/tab; systemctl start mail.timer")
        wait_for("jobs run", lambda: lines(lab, "shop") > 0 and lines(lab, "root") > 0)
        wait_for("Alertmanager", lambda: alertmanager(lab, "status") is not None)
        yield lab


@pytest.fixture
def runs(opened: Lab, tmp_path: Path) -> Iterator[Runs]:
    before = jobs(opened)
    yield Runs(opened, tmp_path, "secrets: {alerts: {env: ALERTS}}\n", ALERTS=LOGIN)
    assert jobs(opened) == before, "every test leaves crontabs and timers as they were"
    assert silences(opened) == []


def lines(lab: Lab, name: str) -> int:
    """How often a job has run."""
    return int(lab[OLD].run(f"cat /srv/{name} | wc -l", check=False).stdout or 0)


def jobs(lab: Lab) -> str:
    """Crontabs, the same files to the last byte, and the timer."""
    return lab[OLD].run(
        "stat -c '%n %i %a %U:%G %Y' /etc/cron.d/.[a-z]* /etc/cron.d/* "
        "/var/spool/cron/crontabs/.[a-z]* /var/spool/cron/crontabs/* 2>/dev/null; "
        f"cat {' '.join(TABS)}; systemctl is-active mail.timer; systemctl is-enabled mail.timer",
        check=False,
    ).stdout


def alertmanager(lab: Lab, place: str, body: Any = None) -> Any:
    """What it answers at the desk; None while it does not."""
    more = ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []
    done = lab.run("control", "curl", "-sf", "-u", "ops:only-in-the-lab", *more,
                   f"{ALERTMANAGER}/api/v2/{place}", check=False)
    return (json.loads(done.stdout) if done.stdout.strip() else "") if not done.returncode else None


def silences(lab: Lab) -> list[dict[str, Any]]:
    """Those in force."""
    found = alertmanager(lab, "silences")
    return [one for one in found if one["status"]["state"] == "active"]


# -- cron ------------------------------------------------------------------------------------------

HOLD = """\
  - id: hold
    kind: cron.hold
    hosts: east-web
    with: {users: root, files: /etc/cron.d/shop, timers: mail, wait: true}
    poll: {every: 100ms, timeout: 30s}
"""
# Three of cron's minutes, told by a job that is not held. The minute of the hold may have begun.
BODY = """\
  - id: body
    kind: shell
    hosts: east-web
    with:
      command: |
        minutes() {
          n=$(wc -l </srv/witness)
          until [ "$(wc -l </srv/witness)" -ge $((n + $1)) ]; do sleep 0.1; done
        }
        minutes 2; before=$(cat /srv/shop /srv/root | wc -l); minutes 3
        echo $(($(cat /srv/shop /srv/root | wc -l) - before))
    undo: "true"
    outputs: {started: {type: int}}
"""
RELEASE = "  - {id: release, kind: cron.release, hosts: east-web, with: {of: hold}}\n"


def test_no_job_starts_between_hold_and_release(opened: Lab, runs: Runs) -> None:
    before = jobs(opened)
    code, state, text = runs.run(HOLD.replace("wait: true", "wait: false") + BODY + RELEASE)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert state.nodes["body@east-web"].outputs["started"] == 0
    held = state.nodes["hold@east-web"].outputs
    assert held["crontabs"] == list(TABS)
    assert held["timers"] == {"mail.timer": {"active": True, "enabled": True}}
    assert jobs(opened) == before
    ran = lines(opened, "shop"), lines(opened, "root")
    wait_for("jobs run again", lambda: lines(opened, "shop") > ran[0]
             and lines(opened, "root") > ran[1])
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    assert {n.state for n in state.nodes.values()} == {NodeState.ROLLED_BACK}


def test_running_jobs_are_shown_and_waited_for(opened: Lab, runs: Runs) -> None:
    """The job of `shop` takes a second longer than there is between two of them."""
    # To cron two changes within a second are one: what the test before put back it may not know.
    wait_for("a job", lambda: "sleep 1\n" in opened[OLD].run(
        "touch /etc/cron.d; ps -eo args=").stdout)
    look = ("  - {id: look, kind: assert, hosts: east-web, with: "
            "{command: '! ps -eo args= | grep -q \"^sleep [1]\"'}}\n")
    code, state, text = runs.run(HOLD + look + RELEASE)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "3 held; no job is running" in text
    assert state.nodes["hold@east-web"].outputs["running"] == []


@pytest.mark.parametrize("step", ["hold", "body", "release"])
def test_jobs_are_as_before_whichever_step_fails(opened: Lab, runs: Runs, step: str) -> None:
    code, state, text = runs.run(HOLD.replace("wait: true", "wait: false") + BODY + RELEASE,
                                 head=BACK, fail=step)
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text


def test_what_somebody_made_anew_is_not_overwritten(opened: Lab, runs: Runs) -> None:
    tab, aside = TABS[0], "/etc/cron.d/.shop.runbook-hold"
    meddle = ("  - {id: meddle, kind: file, hosts: east-web, "
              f"with: {{path: {tab}, content: ''}}}}\n")
    code, state, text = runs.run(HOLD.replace("wait: true", "wait: false") + meddle + RELEASE)
    assert code == ExitCode.HELD, text
    assert f"both {tab} and {aside} are there" in " ".join(text.split())
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text


def test_what_shall_stay_held_stays_held(opened: Lab, runs: Runs) -> None:
    steps = HOLD.replace("wait: true", "on_error: keep") + BODY + RELEASE
    code, state, text = runs.run(steps, head=BACK, fail="body")
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    opened[OLD].run("".join(
        f"mv {Path(tab).parent}/.{Path(tab).name}.runbook-hold {tab}; " for tab in TABS
    ) + "systemctl enable --now mail.timer")


def test_a_crontab_that_is_not_there(opened: Lab, runs: Runs) -> None:
    wrong = HOLD.replace("cron.d/shop", "cron.d/shpo")
    code, state, text = runs.run(wrong + RELEASE)
    assert code == ExitCode.HELD and "not there: /etc/cron.d/shpo" in text
    assert not any(node.intended for node in state.nodes.values())


# -- alerts ----------------------------------------------------------------------------------------

ASK = f'url: "{ALERTMANAGER}", headers: {{Authorization: "{{{{ secrets.alerts }}}}"}}'
QUIET = f"""\
  - id: quiet
    kind: alerts.silence
    with: {{{ASK}, matchers: [site="east", 'alertname=~"Shop.*"'], for: 1h, comment: moving}}
"""
LONGER = f"  - {{id: longer, kind: alerts.silence, with: {{{ASK}, extend: quiet, for: 3h}}}}\n"
LOUD = f"  - {{id: loud, kind: alerts.unsilence, with: {{{ASK}, of: quiet}}}}\n"


def fire(lab: Lab) -> None:
    alertmanager(lab, "alerts", [{"labels": {"alertname": "ShopDown", "site": site}}
                                 for site in ("east", "west")])
    wait_for("both alerts", lambda: len(suppressed(lab)) == 2)


def suppressed(lab: Lab) -> dict[str, bool]:
    return {one["labels"]["site"]: one["status"]["state"] == "suppressed"
            for one in alertmanager(lab, "alerts")}


def hours(silence: dict[str, Any]) -> float:
    begun, ends = (datetime.fromisoformat(silence[key]) for key in ("startsAt", "endsAt"))
    return round((ends - begun) / timedelta(hours=1), 1)


def test_alerts_are_silent_for_longer_and_loud_again(opened: Lab, runs: Runs) -> None:
    """Asked from a host, with a login that is written down nowhere; another silence stays."""
    fire(opened)
    steps = (QUIET + LONGER).replace(ASK, f"{ASK}, via: west-web")
    gate = "  - {id: gate, kind: assert, with: {command: 'false'}}\n"
    code, state, text = runs.run(steps + gate + LOUD)
    assert code == ExitCode.HELD, text
    [one] = silences(opened)
    assert hours(one) == 3.0 and one["comment"].startswith("moving [runbook ")
    wait_for("silence", lambda: suppressed(opened) == {"east": True, "west": False})
    assert runs.command("skip", "gate", "--why", "seen")[0] == ExitCode.OK
    code, state, text = runs.command("resume", "--plain")
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert silences(opened) == []
    wait_for("no silence", lambda: suppressed(opened) == {"east": False, "west": False})
    code, state, text = runs.rollback()
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    for path in runs.folder.rglob("*"):
        assert not path.is_file() or LOGIN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("step", ["quiet", "longer", "loud"])
def test_silences_are_as_before_whichever_step_fails(opened: Lab, runs: Runs, step: str) -> None:
    code, state, text = runs.run(QUIET + LONGER + LOUD, head=BACK, fail=step)
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text


def test_a_silence_of_somebody_else_stays(opened: Lab, runs: Runs) -> None:
    """Even one with the same matchers, there before."""
    now = datetime.now().astimezone()
    other = alertmanager(opened, "silences", {
        "matchers": [{"name": "site", "value": "east", "isRegex": False, "isEqual": True},
                     {"name": "alertname", "value": "Shop.*", "isRegex": True, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "ops", "comment": "the disk is being changed",
    })["silenceID"]
    code, state, text = runs.run(QUIET + LOUD)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert state.nodes["quiet"].outputs["id"] != other
    assert [one["id"] for one in silences(opened)] == [other]
    assert runs.rollback()[0] == ExitCode.ROLLED_BACK
    assert [one["id"] for one in silences(opened)] == [other]
    end(opened, other)


def test_a_silence_that_is_kept_stands(opened: Lab, runs: Runs) -> None:
    steps = QUIET.replace("for: 1h", "for: 1h, on_error: keep") + LOUD
    code, state, text = runs.run(steps, head=BACK, fail="quiet")
    assert (code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK), text
    [one] = silences(opened)
    assert hours(one) == 1.0
    end(opened, one["id"])


def end(lab: Lab, silence: str) -> None:
    lab.run("control", "curl", "-sf", "-u", "ops:only-in-the-lab", "-X", "DELETE",
            f"{ALERTMANAGER}/api/v2/silence/{silence}")


def test_an_alertmanager_that_cannot_be_reached_or_refuses(opened: Lab, runs: Runs) -> None:
    """By default the run stops; with `continue` it goes on, and nothing is left to end."""
    code, _, text = runs.run(QUIET.replace(":9093", ":9094") + LOUD.replace(":9093", ":9094"))
    assert code in {ExitCode.HELD, ExitCode.UNREACHABLE} and "does not answer" in text
    wrong = QUIET.replace(', headers: {Authorization: "{{ secrets.alerts }}"}', "")
    code, state, text = runs.run(wrong + "    on_failure: continue\n" + LOUD)
    assert (code, state.phase) == (ExitCode.OK, RunPhase.DONE), text
    assert "status 401" in text and "already done: the silence has ended" in text
