"""What kinds find that they rely on: each need met, and not met."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest

from runbook.errors import Errored
from runbook.kinds import registry
from runbook.kinds.needs_common import (
    first_word,
    folder_takes_files,
    need,
    owner_can_be_set,
    shell_reads,
)
from runbook.model.database import Database, QueryResult
from runbook.model.inventory import Host
from runbook.model.kind import Kind
from runbook.model.need import ANY_STEP, Need, on_host
from runbook.model.observation import Observation
from runbook.model.ports import CertificateState, CommandResult
from tests.kinds.fakes import FakeHost, FakeNet, FakeReads
from tests.kinds.local_world import LocalWorld

EAST = Host(name="east", address="198.51.100.10", user="deploy")
Said = str | tuple[int, str]


class Telling(FakeHost):
    """Answers by a part of the command; whatever else it is asked it does and says nothing."""

    def __init__(self, answers: dict[str, Said]) -> None:
        super().__init__(host=EAST)
        self.by_part = answers

    def query(self, command: str, **options: Any) -> CommandResult:
        said = next((one for part, one in self.by_part.items() if part in command), "")
        code, text = said if isinstance(said, tuple) else (0, said)
        return CommandResult(exit_code=code, stdout="" if code else text,
                             stderr=text if code else "")


def needs(
    kind: str, args: dict[str, Any], answers: dict[str, Said], seen: Observation | None = None,
    **more: Any,
) -> dict[str, Need]:
    made: Kind = registry()[kind].model_validate(args)
    reads = FakeReads(here=Telling(answers), **more)
    return {one.what: one for one in made.needs(reads, seen)}


def test_what_cannot_be_asked_or_read_is_unknown() -> None:
    def silent() -> Any:
        raise Errored("no answer", hint="look")

    def nonsense() -> Any:
        return int("blah")

    assert (need("x", silent).ok, need("x", silent).hint) == (None, "look")
    assert need("x", nonsense).ok is None and "cannot be read" in need("x", nonsense).seen


@pytest.mark.parametrize(("said", "ok", "seen"), [
    ("yes", True, "yes"), ("missing", False, "there is no such folder"),
    ("no deploy root:root, mode 755", False, "deploy may not write there (root:root, mode 755)"),
    ((1, "sudo: no"), None, "sudo: no"), ("", None, "the host gives no answer"),
])
def test_a_folder_that_takes_files(said: Said, ok: bool | None, seen: str) -> None:
    told = folder_takes_files(Telling({"d=/srv": said}), "/srv")
    assert (told.ok, told.seen, told.made_by) == (ok, seen, (on_host("east"),))


class Ordinary(FakeHost):
    """This machine, as a user who is not root."""

    def query(self, command: str, **options: Any) -> CommandResult:
        user = "nobody" if os.geteuid() == 0 else None
        done = subprocess.run(["sh", "-c", command], user=user, cwd="/", text=True,
                              capture_output=True, check=False)
        return CommandResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_what_an_ordinary_user_may_write_and_give_away() -> None:
    me = Ordinary(host=EAST)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o777)
        (folder / "x").write_text("x")
        assert folder_takes_files(me, made).ok is True
        assert owner_can_be_set(me, f"{made}/new", None, None).ok is True
        told = owner_can_be_set(me, f"{made}/new", "root", None)
        assert told.ok is False and "may not give it to 0" in told.seen
        if os.geteuid() == 0:
            kept = owner_can_be_set(me, f"{made}/x", None, None)
            assert kept.ok is False and kept.seen == "nobody may not give it to 0"
        folder.chmod(0o555)
        denied = folder_takes_files(me, made)
        assert denied.ok is False and "may not write there" in denied.seen
        assert "mode 555" in denied.seen


def test_the_shell_itself_says_what_it_cannot_read(world: LocalWorld, tmp_path: Path) -> None:
    good = "if true; then\n  cat <<'EOF'\nit's\nEOF\nfi\n"
    assert shell_reads(world.here, good, "the command").ok is True
    bad = shell_reads(world.here, f"touch {tmp_path}/made\nif true; then\n  echo x\n", "x")
    assert bad.ok is False and "yntax error" in bad.seen
    assert not (tmp_path / "made").exists(), "nothing is executed"


@pytest.mark.parametrize(("command", "word"), [
    ("rsync -a x y", "rsync"), ("# why\n\n  /usr/bin/env x", "/usr/bin/env"), ("A=1 x", ""),
    ("$x", ""), ("(cd x)", ""), ("'a b' c", ""), ("[ -e x ]", ""), ("make\nx", "make"),
])
def test_the_program_of_a_command_is_named_where_it_is_sure(command: str, word: str) -> None:
    assert first_word(command) == word


def test_a_command_needs_its_program_and_its_folder() -> None:
    found = needs("shell", {"command": "deploy now", "cwd": "/srv/app"},
                  {"command -v deploy": (1, "")})
    assert {what: one.ok for what, one in found.items()} == {
        "there is the folder /srv/app to run in": False, "deploy is there": False}
    found = needs("script", {"source": "x.py", "interpreter": "/usr/bin/python3 -u"},
                  {"command -v /usr/bin/python3": "/usr/bin/python3"})
    assert [(one.what, one.ok) for one in found.values()] == [("/usr/bin/python3 is there", True)]


@pytest.mark.parametrize(("args", "shown", "ok", "seen"), [
    ({"state": "started"}, "LoadState=loaded\nCanReload=no\n", True, "loaded"),
    ({"state": "started"}, "LoadState=masked\n", False, "the unit is masked"),
    ({"state": "started"}, "LoadState=not-found\n", False, "the unit is not found"),
    ({"state": "reloaded"}, "LoadState=loaded\nCanReload=no\n", False, "it knows no reload"),
    ({"state": "reloaded"}, "LoadState=loaded\nCanReload=yes\n", True, "loaded"),
    ({"enabled": True}, "LoadState=loaded\nUnitFileState=static\n", False,
     "it is static: it cannot be enabled"),
    ({"state": "started"}, (1, "no bus"), None, "no bus"),
])
def test_a_unit_that_systemd_can_do_it_with(
    args: dict[str, Any], shown: Said, ok: bool | None, seen: str
) -> None:
    found = needs("service", {"service": "app", **args}, {"systemctl show": shown})
    told = found["systemd can do this with app"]
    assert (told.ok, told.seen) == (ok, seen)


@pytest.mark.parametrize(("said", "ok"), [("root", True), ("polkit", True), ("no deploy", None)])
def test_the_right_to_manage_units(said: str, ok: bool | None) -> None:
    found = needs("service", {"service": "app", "state": "started"}, {"id -u": said})
    assert found["systemd obeys"].ok is ok


SOON = 1_000_000.0 + 86400


@pytest.mark.parametrize(("certificate", "ok", "made_by"), [
    (CertificateState(issuer="R3", not_after=SOON), True, ()),
    (CertificateState(error="expired", not_after=5.0), False, ()),
    (CertificateState(error="refused"), None, (ANY_STEP,)),
])
def test_the_certificate_of_a_url(
    certificate: CertificateState, ok: bool | None, made_by: tuple[str, ...]
) -> None:
    net = FakeNet(certificates={"shop.example": certificate})
    url = {"url": "https://shop.example/", "connect_to": "[2001:db8::1]:8443"}
    (told,) = needs("http.check", url, {}, net=net).values()
    assert (told.ok, told.made_by) == (ok, made_by)
    assert told.ends == (SOON if ok else None)
    for args in ({"url": "http://shop.example/"}, {**url, "verify_tls": False}):
        assert not needs("http.check", args, {}, net=net)


@pytest.mark.parametrize(("connect_to", "host", "port"), [
    (None, "shop.example", 443), ("203.0.113.9", "203.0.113.9", 443),
    ("203.0.113.9:8443", "203.0.113.9", 8443), ("[2001:db8::1]:8443", "2001:db8::1", 8443),
    ("2001:db8::1", "2001:db8::1", 443),
])
def test_where_a_certificate_is_asked_for(connect_to: str | None, host: str, port: int) -> None:
    asked: list[tuple[str, int, str]] = []

    class Net(FakeNet):
        def certificate(self, host: str, port: int, *, name: str, **more: Any) -> Any:
            asked.append((host, port, name))
            return CertificateState(not_after=SOON)

    needs("http.check", {"url": "https://shop.example/", "connect_to": connect_to}, {}, net=Net())
    assert asked == [(host, port, "shop.example")]


SYNC = {"source": "/srv/a/", "destination": "/srv/b/c", "from": "west"}
SEEN = Observation(evidence={"differences": 3, "bytes": 2_000_000, "files": 3, "sample": []})


def df(free: int) -> str:
    return f"Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/x 9 9 {free} 9% /\n"


@pytest.mark.parametrize(("answers", "what", "ok"), [
    ({}, "rsync >=3.1.3 is there", True), ({"rsync --v": "3.1.2"}, "rsync >=3.1.3 is there", False),
    ({"command -v rsync": (9, "")}, "rsync >=3.1.3 is there", False),
    ({"rsync --v": "3.1.2"}, "rsync >=3.1.3 is there on west", False),
    ({}, "a login at west works from here by itself", True),
    ({" true": (255, "Permission denied (publickey).")},
     "a login at west works from here by itself", False),
    ({}, "there is room for what comes to /srv/b/c", True),
    ({"df ": df(1900)}, "there is room for what comes to /srv/b/c", False),
    ({}, "the folder /srv takes files", True),
    ({"d=/srv\n": "no deploy root:root, mode 755"}, "the folder /srv takes files", False),
])
def test_a_tree_needs_rsync_a_login_and_room(
    answers: dict[str, Said], what: str, ok: bool
) -> None:
    well: dict[str, Said] = {
        "rsync --v": "rsync  version 3.2.7", "pwd -P": "/srv", "df ": df(5000), "d=/srv\n": "yes",
    }
    found = needs("files.sync", SYNC, answers | {k: v for k, v in well.items()
                                                 if k not in answers}, SEEN)
    assert found[what].ok is ok, found[what]


def test_a_tree_that_could_not_be_compared_still_says_what_is_missing() -> None:
    found = needs("files.sync", SYNC, {" true": (255, "Host key verification failed.")})
    login = found["a login at west works from here by itself"]
    assert login.seen == "Host key verification failed."
    assert not any("room" in what for what in found)


class Console:
    """PgBouncer's console, as far as it is asked."""

    def __init__(self, user: str | None, **settings: str) -> None:
        self.database = Database(
            name="pool", engine="pgbouncer", host="east", port=6432, user=user
        )
        self.settings = settings

    def query(self, statement: str, *, timeout: float = 30.0) -> QueryResult:
        if statement == "SHOW CONFIG":
            return QueryResult(columns=("key", "value"), rows=tuple(self.settings.items()))
        return QueryResult(columns=("name", "pool_mode"), rows=(("shop", None), ("old", "session")))


@pytest.mark.parametrize(("user", "settings", "admin"), [
    ("runbook", {"admin_users": "root, runbook"}, True),
    ("runbook", {"admin_users": "root"}, False),
    (None, {"admin_users": "root"}, None), ("x", {"admin_users": "", "auth_type": "any"}, True),
])
@pytest.mark.parametrize(("pool", "mode", "pools"), [
    ("shop", "transaction", True), ("shop", "session", False), ("old", "transaction", False),
    ("lost", "transaction", False),
])
def test_a_pool_that_can_be_paused(
    user: str | None, settings: dict[str, str], admin: bool | None, pool: str, mode: str,
    pools: bool,
) -> None:
    console = Console(user, pool_mode=mode, **settings)

    class Reads(FakeReads):
        def database(self, name: str) -> Any:
            return console

    kind = registry()["pgbouncer.pause"].model_validate({"console": "pool", "pool": pool})
    one, other = kind.needs(cast(Any, Reads()), None)
    assert (one.ok, other.ok) == (admin, pools)


def changes(kind: str, args: dict[str, Any], seen: Observation) -> tuple[str, ...]:
    return registry()[kind].model_validate(args).would_change(cast(Any, FakeReads()), seen)


@pytest.mark.parametrize(("kind", "args", "state", "lines"), [
    ("service", {"service": "app", "state": "started", "enabled": True},
     {"exists": True, "active": False, "enabled": False},
     ("app: stopped → running", "app: does not start at boot → starts at boot")),
    ("service", {"service": "app", "state": "restarted"},
     {"exists": True, "active": True, "enabled": True}, ("app: running → running, restarted",)),
    ("haproxy.server", {"backend": "app", "servers": {"east": "maint", "west": "ready"}},
     {"east": "ready", "west": "ready"}, ("app/east: ready → maint",)),
    ("nginx.maintenance", {"flag": "/run/x", "url": "http://a/"}, {"exists": False},
     ("http://a/: the site → the fallback pages",)),
    ("postgres.freeze", {"database": "east"}, {"read_only": False},
     ("east: takes writes → refuses writes",)),
    ("redis.thaw", {"database": "east"}, {"demanded": 1000, "max_lag": 10},
     ("east: refuses writes → takes writes",)),
])
def test_what_would_change_is_told_from_before_to_after(
    kind: str, args: dict[str, Any], state: dict[str, Any], lines: tuple[str, ...]
) -> None:
    assert changes(kind, args, Observation(state=state)) == lines


