"""Mail servers of other people, that send to a domain from outside.

    senders.py DOMAIN RECORDS

Three of them send one message after the other, each looking up the MX and its address anew. As a
mail server does, each keeps a message and tries it again until it is taken (``250``); only a
``5xx`` makes it give up. RECORDS gets a line for each that has ended, on the disk before the next
is begun: its Message-ID, the SHA-256 of its text, the site that took it (``-``: nobody, for good)
and the number of tries. They leave when they are told to (SIGTERM): what has not been taken by
then was never acknowledged.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import smtplib
import sys
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.resolver

SENDERS, PAUSE, PATIENCE = 3, 0.1, 5.0
BOXES = ("ann", "bob", "carol", "orders")


@dataclass(frozen=True)
class Sent:
    message: str
    sha256: str
    site: str
    tries: int

    @property
    def taken(self) -> bool:
        return self.site != "-"


def read(records: Path) -> list[Sent]:
    lines = records.read_text().splitlines() if records.exists() else []
    words = [line.split(" ") for line in lines]
    return [Sent(message, digest, site, int(tries)) for message, digest, site, tries in words]


def send(domain: str, box: str, text: str) -> str:
    """One try; the site that took it. Raises OSError, SMTPException, DNSException."""
    resolver = dns.resolver.Resolver()
    resolver.lifetime = PATIENCE
    first = min(resolver.resolve(domain, "MX"), key=lambda one: one.preference)
    address = resolver.resolve(first.exchange, "A")[0].to_text()
    server = smtplib.SMTP(timeout=PATIENCE, local_hostname="sender.example")
    with server:
        _, greeting = server.connect(address, 25)
        server.sendmail("somebody@sender.example", [f"{box}@{domain}"], text)
    return greeting.decode().split()[0]


def refused(fault: Exception) -> bool:
    """Whether the other side said no for good."""
    if isinstance(fault, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in fault.recipients.values())
    return isinstance(fault, smtplib.SMTPResponseException) and fault.smtp_code >= 500


def main(domain: str, records: str) -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    writing = threading.Lock()
    with Path(records).open("a") as file:

        def sender(number: int) -> None:
            dice = random.Random(number)
            while not over.wait(PAUSE):
                message = f"<{uuid.uuid4().hex}@sender.example>"
                # A line that begins with a dot, and one that is only that: both are of the text.
                text = (f"Message-ID: {message}\r\nSubject: test\r\n\r\n.\r\n..dots\r\n"
                        + "\r\n".join(f"{dice.random()}" for _ in range(dice.randrange(500)))
                        + "\r\n")
                tries, site = 0, ""
                while not site:
                    tries += 1
                    try:
                        site = send(domain, BOXES[number % len(BOXES)], text)
                    except (OSError, smtplib.SMTPException, dns.exception.DNSException) as fault:
                        if refused(fault):
                            site = "-"
                        elif over.wait(0.1):
                            return
                digest = hashlib.sha256(text.encode()).hexdigest()
                with writing:
                    file.write(f"{message} {digest} {site} {tries}\n")
                    file.flush()
                    os.fsync(file.fileno())

        threads = [threading.Thread(target=sender, args=(n,)) for n in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
