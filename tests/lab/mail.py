"""The mail of examples/mail-mysql on the hosts of the lab, those who send it, and its move."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from tests.lab import mariadb, senders
from tests.lab.lab import Lab
from tests.lab.mariadb import ask
from tests.lab.names import SECONDARY, TSIG
from tests.lab.processes import kill, listening, wait_for
from tests.lab.senders import Sent
from tests.lab.shop import ROOT, Move
from tests.lab.switchover import NEW, OLD, PASSWORD

EXAMPLE = ROOT / "examples" / "mail-mysql"
BOXES = "/srv/mail/boxes"
_SERVICE = "export SITE={site}; exec /usr/bin/python3 /srv/mail/mail.py\n"


def missing() -> str:
    """Why mail cannot be played here; empty when it can."""
    found = subprocess.run(["/usr/bin/python3", "-c", "import pymysql"], capture_output=True,
                           check=False)
    return "not installed: python3-pymysql" if found.returncode else ""


def zone(ttl: int = 4) -> str:
    """The example's zone with a secondary, and TTLs of seconds."""
    text = (EXAMPLE / "shop.example.zone").read_text()
    assert "$TTL 3600" in text
    second = f"@ IN NS ns2.shop.example.\nns2 IN A {SECONDARY}\n"
    return text.replace("$TTL 3600", f"$TTL {ttl}") + second


def open_mail() -> Lab:
    """A lab in which the mail comes in in the east, and the west follows."""
    files = {
        host: {
            "/srv/mail/mail.py": (EXAMPLE / "stack/mail.py").read_text(),
            "/srv/mail/schema.sql": (EXAMPLE / "stack/schema.sql").read_text(),
            "/etc/runbook-lab/units/mail": _SERVICE.format(site=site),
            "/etc/runbook-lab/enabled/mail": "",
        }
        for host, site in ((OLD, "east"), (NEW, "west"))
    }
    lab = Lab.open(zone(), files=files)
    try:
        mariadb.make_pair(lab)
        lab[OLD].run(f"mariadb --no-defaults -u root -S {mariadb.DATA}/socket "
                     "</srv/mail/schema.sql")
        for host in (OLD, NEW):
            wait_for(f"{host} has the table", lambda host=host: "messages" in ask(
                lab, host, "SHOW TABLES IN mail"))
            wait_for(f"{host} greets", lambda host=host: 25 in listening(lab[host].init))
    except BaseException:
        lab.close()
        raise
    return lab


def files_at(lab: Lab, host: str) -> dict[str, str]:
    """SHA-256 of what is in the boxes of a side, by path."""
    root = lab[host].disk / BOXES.lstrip("/")
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*")) if path.is_file()
    }


def mail_at(lab: Lab, host: str) -> dict[str, str]:
    """SHA-256 of each message that a side has altogether: its row, and the text that is in the
    file which the row names. One that has only either is not there."""
    files = files_at(lab, host)
    rows = ask(lab, host, "SELECT message_id, path, sha256 FROM mail.messages")
    found = {}
    for row in rows.splitlines():
        message, path, digest = row.split("\t")
        if files.get(path) == digest:
            found[message] = digest
    return found


def rows_at(lab: Lab, host: str) -> set[str]:
    return set(ask(lab, host, "SELECT path FROM mail.messages").split())


class Senders:
    """``with Senders(lab, folder) as senders``: they send, and leave at the end."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._records = folder / "sent"
        self._process = lab.start(
            "client", sys.executable, str(Path(senders.__file__)), "shop.example",
            str(self._records),
        )

    def __enter__(self) -> Senders:
        try:
            self.more(20)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sent(self) -> list[Sent]:
        return senders.read(self._records)

    @property
    def acknowledged(self) -> dict[str, str]:
        return {one.message: one.sha256 for one in self.sent if one.taken}

    def more(self, count: int) -> None:
        """Wait until so many more messages are taken."""
        enough = len(self.acknowledged) + count
        wait_for(f"{count} more messages", lambda: len(self.acknowledged) >= enough, 30)

    def close(self) -> None:
        """They leave; what is under way comes to its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                kill([self._process.pid])
                self._process.wait()


class MailMove(Move):
    """One move of the mail. Real name servers and caches take real time: minutes become seconds,
    and nothing else of the example's runbook is changed."""

    example: ClassVar[Path] = EXAMPLE
    shorter: ClassVar[dict[str, str]] = {
        "  low_ttl: 60\n  skew: 5s\n": "  low_ttl: 1\n  skew: 1s\n"
    }
    secrets: ClassVar[dict[str, str]] = {"MAIL_TSIG": TSIG, "MAIL_DB_PASSWORD": PASSWORD}

    def zone(self) -> str:
        return zone()
