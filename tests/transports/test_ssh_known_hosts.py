"""known_hosts files, made by OpenSSH's own tools where it has them."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from runbook.errors import HostKeyRefused
from runbook.transports.ssh.known_hosts import KnownHosts, fingerprint
from tests.transports.ssh_lab import keygen, needs_sshd

ONE, TWO = b"key one", b"key two"


def line(names: str, key: bytes = ONE, key_type: str = "ssh-ed25519") -> str:
    return f"{names} {key_type} {base64.b64encode(key).decode()} comment"


def known(tmp_path: Path, *lines: str) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines) + "\n")
    return KnownHosts([path])


def accepts(table: KnownHosts, host: str, port: int = 22, key: bytes = ONE) -> bool:
    try:
        table.check(host, port, "ssh-ed25519", key, "label")
    except HostKeyRefused:
        return False
    return True


@pytest.mark.parametrize(("names", "host", "port", "expected"), [
    ("web1", "web1", 22, True),
    ("web1", "WEB1", 22, True),
    ("web1", "web2", 22, False),
    ("web1,10.0.0.1", "10.0.0.1", 22, True),
    ("[web1]:2222", "web1", 2222, True),
    ("[web1]:2222", "web1", 22, False),
    ("[web1]:2222", "web1", 2223, False),
    ("web1", "web1", 2222, True),
    ("*.example.org", "a.example.org", 22, True),
    ("*.example.org,!bad.example.org", "bad.example.org", 22, False),
    ("!bad.example.org,*.example.org", "bad.example.org", 22, False),
    ("web?", "web1", 22, True),
    ("web[12]", "web1", 22, False),
])
def test_patterns(tmp_path: Path, names: str, host: str, port: int, expected: bool) -> None:
    assert accepts(known(tmp_path, line(names)), host, port) is expected


@needs_sshd
def test_names_hashed_by_ssh_keygen(tmp_path: Path) -> None:
    public = keygen(tmp_path / "k").with_suffix(".pub").read_text().split()
    path = tmp_path / "known_hosts"
    path.write_text(f"web1 {public[0]} {public[1]}\n[web2]:2222 {public[0]} {public[1]}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True)
    assert "|1|" in path.read_text() and "web" not in path.read_text()
    table, key = KnownHosts([path]), base64.b64decode(public[1])
    assert accepts(table, "web1", 22, key)
    assert accepts(table, "web2", 2222, key)
    assert not accepts(table, "web3", 22, key)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True, check=True
    )
    assert fingerprint(key) in shown.stdout


def test_any_of_several_keys_of_one_type_will_do(tmp_path: Path) -> None:
    table = known(tmp_path, line("web1", ONE), line("web1", TWO))
    assert accepts(table, "web1", key=ONE) and accepts(table, "web1", key=TWO)


def test_a_revoked_key_is_refused_even_if_known(tmp_path: Path) -> None:
    table = known(tmp_path, line("web1"), "@revoked " + line("*"))
    with pytest.raises(HostKeyRefused, match="revoked"):
        table.check("web1", 22, "ssh-ed25519", ONE, "web1")
    assert accepts(known(tmp_path, line("web1", TWO), "@revoked " + line("*")), "web1", key=TWO)


def test_a_changed_key_names_both_and_the_place(tmp_path: Path) -> None:
    table = known(tmp_path, "# comment", line("web1", ONE))
    with pytest.raises(HostKeyRefused) as caught:
        table.check("web1", 22, "ssh-ed25519", TWO, "the web")
    assert fingerprint(TWO) in caught.value.message
    assert fingerprint(ONE) in caught.value.hint
    assert f"{tmp_path}/known_hosts:2" in caught.value.hint


def test_lines_that_trust_nothing_are_told(tmp_path: Path) -> None:
    table = known(
        tmp_path, "@cert-authority " + line("*"), "web1 ssh-ed25519 ???", "@odd " + line("a")
    )
    with pytest.raises(HostKeyRefused) as caught:
        table.check("web1", 22, "ssh-ed25519", ONE, "web1")
    hint = caught.value.hint
    assert "known_hosts:1 names a certificate authority" in hint
    assert "known_hosts:2: not a known_hosts line" in hint
    assert "known_hosts:3: not a known_hosts line" in hint


def test_algorithms_of_the_known_keys_are_asked_for_first(tmp_path: Path) -> None:
    table = known(tmp_path, line("web1", key_type="ssh-rsa"), line("web1", TWO))
    assert table.algorithms("web1", 22) == ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519")
    assert table.algorithms("web2", 22) == ()


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    assert KnownHosts([tmp_path / "none"]).entries == []
    with pytest.raises(HostKeyRefused, match="cannot be read"):
        KnownHosts([], required=[tmp_path / "none"])
