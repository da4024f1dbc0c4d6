"""Takes mail in for one domain: SMTP on port 25, a row a recipient in MariaDB, texts in Maildirs.

It says ``250`` once the text is on the disk and the row is committed, and nothing before. While its
database refuses writes it says ``451``, and the sender's server keeps the message and tries again
(RFC 5321, section 4.5.4.1). A message that is sent once more is taken once.

Whoever stops writes in the database stops the files with them: nothing is written to a box before
the row has gone in. From the row to the commit LOCK is held, shared; so once somebody has had it
alone (``flock LOCK true``) with the database frozen, no box changes any more.

Settings come from the environment: SITE, DOMAIN, BOXES, LOCK, PORT, DB_HOST, DB_USER, DB_PASSWORD.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socketserver
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.parser import BytesHeaderParser
from pathlib import Path

import pymysql

SITE = os.environ.get("SITE", "here")
DOMAIN = os.environ.get("DOMAIN", "shop.example")
BOXES = Path(os.environ.get("BOXES", "/srv/mail/boxes"))
LOCK = Path(os.environ.get("LOCK", "/srv/mail/delivering"))

UNFINISHED = BOXES.parent / "unfinished"
"""On the same file system, and not below the boxes: what is not whole is not copied."""

LARGEST = 10_000_000
PATIENCE = 60.0
"""Seconds a client may be silent."""
READ_ONLY, DUPLICATE = 1290, 1062
"""MariaDB's numbers for a server that is frozen, and for a row that is there already."""

LATER = "451 4.3.2 not now, please try again later"
MAIL_FROM = re.compile(r"MAIL FROM:\s*<([^<>\s]*)>", re.IGNORECASE)
RCPT_TO = re.compile(r"RCPT TO:\s*<([^<>\s]+)@([^<>@\s]+)>", re.IGNORECASE)
# It names a folder: no dot in front, no slash.
BOX = re.compile(r"[a-z0-9_+-][a-z0-9._+-]{0,63}")


class NotNow(Exception):
    """The message is not taken in, and nothing of it is kept."""


class InDoubt(Exception):
    """Nobody knows whether the row was committed, so the text stays where it is."""


class Store:
    """The database and the boxes, as one session sees them."""

    def __init__(self) -> None:
        try:
            self._database = pymysql.connect(
                host=os.environ.get("DB_HOST", "127.0.0.1"),
                user=os.environ.get("DB_USER", "mail"),
                password=os.environ.get("DB_PASSWORD", ""), database="mail",
                connect_timeout=5, read_timeout=30, write_timeout=30,
            )
        except pymysql.MySQLError as fault:
            raise NotNow(f"database: {fault}") from fault

    def close(self) -> None:
        with suppress(pymysql.MySQLError):
            self._database.close()

    def open(self) -> bool:
        """Whether the database takes writes. Raises NotNow."""
        try:
            with self._database.cursor() as cursor:
                cursor.execute("SELECT @@GLOBAL.read_only")
                found = cursor.fetchone()
            self._database.rollback()
        except pymysql.MySQLError as fault:
            raise NotNow(f"database: {fault}") from fault
        return found is not None and not int(found[0])

    def take(self, sender: str, boxes: list[str], text: bytes) -> None:
        """The message is in every box and in the database. Raises NotNow, InDoubt."""
        # Asked first, so that nobody holds the lock once writes have been stopped.
        if not self.open():
            raise NotNow("the database is frozen")
        digest = hashlib.sha256(text).hexdigest()
        identity = BytesHeaderParser().parsebytes(text).get("Message-ID", "").strip()
        if not identity or len(identity) > 250 or not identity.isascii():
            identity = f"<{digest}@{DOMAIN}>"
        written: list[Path] = []
        with delivering():
            try:
                for box in boxes:
                    path = f"{box}/new/{uuid.uuid4().hex}.{SITE}"
                    if self._row(identity, box, sender, path, len(text), digest):
                        written.append(BOXES / path)
                        put(BOXES / box, BOXES / path, text)
                self._database.commit()
            except (pymysql.MySQLError, OSError) as fault:
                if self._in_doubt(fault):
                    raise InDoubt(f"{identity}: {fault}") from fault
                for place in written:
                    place.unlink(missing_ok=True)
                raise NotNow(f"{identity}: {fault}") from fault

    def _row(self, *values: object) -> bool:
        """Whether it is new. It counts once it is committed."""
        with self._database.cursor() as cursor:
            try:
                cursor.execute(
                    "INSERT INTO messages (message_id, recipient, sender, path, size, sha256)"
                    " VALUES (%s, %s, %s, %s, %s, %s)", values,
                )
            except pymysql.IntegrityError as fault:
                if fault.args[0] != DUPLICATE:
                    raise
                return False
        return True

    def _in_doubt(self, fault: Exception) -> bool:
        """A server that says no, or that can still be asked to forget the rows, has not committed
        them. One that has gone may have."""
        if fault.args and fault.args[0] == READ_ONLY:
            return False
        try:
            self._database.rollback()
        except pymysql.MySQLError:
            return True
        return False


@contextmanager
def delivering() -> Iterator[None]:
    with LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def put(box: Path, path: Path, text: bytes) -> None:
    """On the disk under its name, whole or not at all; written elsewhere, then renamed into new."""
    for part in ("tmp", "new", "cur"):
        (box / part).mkdir(parents=True, exist_ok=True)
    unfinished = UNFINISHED / path.name
    try:
        with unfinished.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Session(socketserver.StreamRequestHandler):
    timeout = PATIENCE

    def handle(self) -> None:
        with suppress(OSError):
            self.say(f"220 {SITE} ESMTP {DOMAIN}")
            self.greeted()

    def greeted(self) -> None:
        sender: str | None = None
        boxes: list[str] = []
        while line := self.rfile.readline(2000):
            words = line.decode("utf-8", "replace").strip()
            verb = words[:4].upper()
            if verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            if verb in {"HELO", "EHLO", "RSET"}:
                sender, boxes = None, []
                self.say(f"250 {SITE}")
            elif verb == "NOOP":
                self.say("250 2.0.0 ok")
            elif found := MAIL_FROM.match(words):
                sender, boxes = found[1], []
                self.say("250 2.1.0 ok")
            elif sender is not None and (found := RCPT_TO.match(words)):
                box = found[1].lower()
                if found[2].lower() != DOMAIN or not BOX.fullmatch(box):
                    self.say("550 5.1.1 no such box here")
                else:
                    boxes.append(box)
                    self.say("250 2.1.5 ok")
            elif verb == "DATA" and boxes and sender is not None:
                self.say("354 go on")
                if not self.message(sender, list(dict.fromkeys(boxes))):
                    return
                sender, boxes = None, []
            else:
                self.say("503 5.5.1 not now, or not known here")

    def message(self, sender: str, boxes: list[str]) -> bool:
        """False: the client has gone in the middle of its text, of which nothing is kept."""
        text, size = [], 0
        while (line := self.rfile.readline(LARGEST)) != b".\r\n":
            if not line.endswith(b"\n"):
                return False
            size += len(line)
            if size <= LARGEST:
                text.append(line[1:] if line.startswith(b".") else line)
        if size > LARGEST:
            self.say("552 5.3.4 too large")
            return True
        try:
            store = Store()
            try:
                store.take(sender, boxes, b"".join(text))
            finally:
                store.close()
        except (NotNow, InDoubt) as why:
            print(why, file=sys.stderr, flush=True)
            self.say(LATER)
        else:
            self.say("250 2.0.0 taken")
        return True

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100


if __name__ == "__main__":
    BOXES.mkdir(parents=True, exist_ok=True)
    UNFINISHED.mkdir(exist_ok=True)
    with Server(("", int(os.environ.get("PORT", "25"))), Session) as server:
        server.serve_forever()
