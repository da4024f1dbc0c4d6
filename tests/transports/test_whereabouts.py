"""Where real SSH servers are and who: by known_hosts, or by the keys they show, without a login."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook.model.inventory import Host, Inventory
from runbook.model.plan import Plan
from runbook.model.whereabouts import HostPlace
from runbook.transports.clock import SystemClock
from runbook.transports.ssh.known_hosts import fingerprint
from runbook.transports.whereabouts import PlanWhereabouts, system_addresses
from runbook.transports.world import TransportWorld
from tests.transports.ssh_lab import Sshd, keygen, needs_sshd

pytestmark = needs_sshd


@contextmanager
def asking(inventory: Inventory, state: Path, *, log_in: bool) -> Iterator[PlanWhereabouts]:
    plan = Plan(runbook="shop", inventory=inventory)
    world = TransportWorld(
        plan, run_id="whereabouts", state_dir=state, epoch=0, clock=SystemClock(), endpoints=None
    )
    found = PlanWhereabouts(inventory, world, log_in=log_in)
    try:
        yield found
    finally:
        found.close()


def place(inventory: Inventory, state: Path, *, log_in: bool) -> HostPlace:
    with asking(inventory, state, log_in=log_in) as found:
        return found.hosts(["web1"])["web1"]


def own_key(sshd: Sshd) -> str:
    return fingerprint(base64.b64decode(sshd.key_line().split()[1]))


def logins(sshd: Sshd) -> int:
    return (sshd.folder / "log").read_text().count("Accepted publickey")


def test_the_keys_a_host_shows_without_a_login(sshd: Sshd, tmp_path: Path) -> None:
    sshd.known_hosts.write_text("")  # Nobody has to know it for this.
    found = place(sshd.inventory(), tmp_path, log_in=True)
    assert (found.at, found.addresses) == (f"127.0.0.1:{sshd.port}", ("127.0.0.1",))
    assert [(one.kind, one.fingerprint) for one in found.keys] == [("ssh-ed25519", own_key(sshd))]
    assert logins(sshd) == 0


def test_every_kind_of_key_is_asked_for(tmp_path: Path) -> None:
    server = Sshd.make(tmp_path / "server", f"HostKey {tmp_path}/rsa", f"HostKey {tmp_path}/ecdsa")
    keygen(tmp_path / "rsa", "rsa")
    keygen(tmp_path / "ecdsa", "ecdsa")
    server.start()
    try:
        found = place(server.inventory(), tmp_path, log_in=True)
    finally:
        server.stop()
    assert [one.kind for one in found.keys] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]


def test_production_is_known_by_known_hosts_and_not_asked(tmp_path: Path) -> None:
    server = Sshd.make(tmp_path / "server")  # Never started.
    known = place(server.inventory(), tmp_path, log_in=False)
    assert [one.fingerprint for one in known.keys] == [own_key(server)]
    # By a hashed name, too (ssh-keygen -H).
    salt = b"0123456789012345678x"
    name = f"[127.0.0.1]:{server.port}"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    hashed = "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))
    server.known_hosts.write_text(f"{hashed} {server.key_line()}\n")
    assert place(server.inventory(), tmp_path, log_in=False).keys == known.keys
    # By its address, where it is known by that alone.
    server.write_known_hosts()
    by_name = server.inventory(server.host(address="localhost"))
    assert place(by_name, tmp_path, log_in=False).keys == known.keys


def test_production_that_is_not_known_is_asked(sshd: Sshd, tmp_path: Path) -> None:
    sshd.known_hosts.write_text("")
    found = place(sshd.inventory(), tmp_path, log_in=False)
    assert [one.fingerprint for one in found.keys] == [own_key(sshd)]
    assert logins(sshd) == 0


def test_what_cannot_be_found_out_is_said(sshd: Sshd, tmp_path: Path) -> None:
    sshd.known_hosts.write_text("")
    sshd.stop()
    assert "no connection" in place(sshd.inventory(), tmp_path, log_in=False).unknown
    nowhere = sshd.inventory(sshd.host(address="no-such-host.invalid"))
    assert "no-such-host.invalid cannot be resolved" in place(
        nowhere, tmp_path, log_in=False).unknown


def test_nobody_logs_in_on_production_s_jump_host(sshd: Sshd, tmp_path: Path) -> None:
    hop = sshd.host("hop")
    behind = sshd.host(jump="hop")
    sshd.known_hosts.write_text("")
    found = place(sshd.inventory(behind, hop), tmp_path, log_in=False)
    assert found.way == ("127.0.0.1",)
    assert "in no known_hosts file, and it is behind another machine" in found.unknown
    sshd.write_known_hosts()
    assert place(sshd.inventory(behind, hop), tmp_path, log_in=False).unknown == ""
    assert logins(sshd) == 0
    # In staging the way is gone as the run would go it.
    staging = place(sshd.inventory(behind, hop), tmp_path, log_in=True)
    assert [one.fingerprint for one in staging.keys] == [own_key(sshd)]
    assert logins(sshd) == 1


def test_the_name_and_port_of_ssh_config_count(sshd: Sshd, tmp_path: Path) -> None:
    inventory = sshd.inventory(Host(name="web1", address="web1"))
    config = Path(inventory.ssh_config or "")
    config.write_text(f"Host web1\n  HostName 127.0.0.1\n  Port {sshd.port}\n" + config.read_text())
    found = place(inventory, tmp_path, log_in=True)
    assert (found.at, found.addresses) == (f"127.0.0.1:{sshd.port}", ("127.0.0.1",))


def test_one_address_has_one_form() -> None:
    assert system_addresses("::ffff:192.0.2.1") == ("192.0.2.1",)
    assert system_addresses("2001:DB8:0::1") == ("2001:db8::1",)
