"""Values of secrets: where they come from, and what errors may say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from runbook.errors import Errored, NotFound
from runbook.model.secrets import Redactor, SecretRef, mark
from runbook.transports.secrets import SecretStore


def ref(
    source: Literal["env", "file", "command"], argument: str | tuple[str, ...], name: str = "pw"
) -> SecretRef:
    return SecretRef(name=name, source=source, argument=argument)


def store(
    tmp_path: Path, *refs: SecretRef, redactor: Redactor | None = None, **environ: str
) -> SecretStore:
    return SecretStore(
        refs, directory=tmp_path, redactor=redactor or Redactor(),
        environ={"PATH": "/usr/bin:/bin", **environ},
    )


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "pw.txt").write_text("from file\n")
    found = store(
        tmp_path, ref("env", "PW", "e"), ref("file", "pw.txt", "f"),
        ref("command", ("printf", "%s\\n", "a b; $HOME"), "c"), PW="from env",
    )
    assert [found.value(name) for name in "efc"] == ["from env", "from file", "a b; $HOME"]
    assert found.names == ("e", "f", "c")
    assert found.resolve_marks(f"<{mark('e')}|{mark('f')}>") == "<from env|from file>"


def test_values_are_read_when_needed_and_once(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    found = store(tmp_path, ref("command", ("sh", "-c", f"echo x >>{counter}; echo value")))
    assert not counter.exists()
    assert found.value("pw") == found.value("pw") == "value"
    assert counter.read_text() == "x\n"


def test_the_redactor_learns_a_value_before_anybody_gets_it(tmp_path: Path) -> None:
    redactor = Redactor()
    found = store(tmp_path, ref("env", "PW"), redactor=redactor, PW="hunter2hunter2")
    assert redactor.text("hunter2hunter2") == "hunter2hunter2"
    found.value("pw")
    assert redactor.text("hunter2hunter2") == mark("pw")


@pytest.mark.parametrize(("source", "argument", "why"), [
    ("env", "MISSING", "MISSING is not set"),
    ("file", "none.txt", "none.txt cannot be read"),
    ("file", "binary", "is not UTF-8"),
    ("command", ("sh", "-c", "echo topsecret; echo topsecret >&2; exit 3"), "exited with 3"),
    ("command", ("no-such-program",), "cannot be run"),
    ("command", ("true",), "is empty"),
    ("env", "EMPTY", "is empty"),
    ("command", ("printf", "\\377topsecret"), "UTF-8"),
])
def test_errors_name_the_secret_and_its_source_alone(
    tmp_path: Path, source: Literal["env", "file", "command"], argument: str | tuple[str, ...],
    why: str,
) -> None:
    (tmp_path / "binary").write_bytes(b"\xfftopsecret")
    with pytest.raises(Errored, match=why) as caught:
        store(tmp_path, ref(source, argument), EMPTY="").value("pw")
    assert "'pw'" in caught.value.message
    assert "topsecret" not in caught.value.message
    assert b"topsecret" not in repr(caught.value.__cause__).encode()


def test_prove_lists_all_that_fail(tmp_path: Path) -> None:
    refs = [ref("env", name.upper(), name) for name in "abc"]
    found = store(tmp_path, *refs, B="bbbb")
    with pytest.raises(Errored) as caught:
        found.prove(found.names)
    assert "'a'" in caught.value.message and "'c'" in caught.value.message
    assert "'b'" not in caught.value.message
    found.prove(("b",))


def test_an_undeclared_secret(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nobody"):
        store(tmp_path).value("nobody")


def test_a_sandbox_never_asks_the_real_source(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    refs = [ref("command", ("touch", str(touched)), "a"), ref("env", "B", "b")]
    found = SecretStore(
        refs, directory=tmp_path, redactor=Redactor(), values={"a": "made up"},
        environ={"B": "real"},
    )
    assert found.value("a") == "made up"
    with pytest.raises(Errored, match="no value for secret 'b'"):
        found.value("b")
    assert not touched.exists()
