"""The registry: lazy, and clear about packages that are broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook import kinds
from runbook.errors import NotFound
from runbook.kinds import names, registry
from runbook.model.kind import Kind

MODULE = """\
from typing import ClassVar
from runbook.model.kind import Kind

class Deploy(Kind):
    name: ClassVar[str] = "acme.deploy"
    example: ClassVar[str] = ""

class Misnamed(Kind):
    name: ClassVar[str] = "acme.other"
    example: ClassVar[str] = ""

not_a_kind = 7
"""

POINTS = """\
[runbook.kinds]
acme.deploy = acme_kinds:Deploy
acme.misnamed = acme_kinds:Misnamed
acme.number = acme_kinds:not_a_kind
acme.missing = acme_kinds:Missing
acme.broken = acme_broken:Anything
shell = acme_kinds:Deploy
"""


def package(folder: Path, name: str, points: str) -> None:
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with kinds, some of them broken."""
    package(tmp_path, "acme", POINTS)
    (tmp_path / "acme_kinds.py").write_text(MODULE)
    (tmp_path / "acme_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.cache_clear()
    yield tmp_path
    registry.cache_clear()


def test_every_name_leads_to_a_kind() -> None:
    found = registry()
    assert len(found) == len(names()) >= 20
    for name in names():
        assert issubclass(found[name], Kind) and found[name] is found[name]


def test_names_import_no_kind() -> None:
    code = (
        "import sys; from runbook.kinds import names; assert 'shell' in names();"
        "bad = [m for m in sys.modules if m.startswith('runbook.kinds.')"
        " or m.startswith(('pydantic', 'httpx', 'paramiko'))];"
        "assert not bad, bad;"
        "from runbook.kinds import registry; registry()['wait'];"
        "assert 'runbook.kinds.wait' in sys.modules;"
        "assert 'runbook.kinds.files_sync' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_not_there() -> None:
    assert "no.such" not in registry() and registry().get("no.such") is None
    with pytest.raises(KeyError):
        registry()["no.such"]


def test_a_package_adds_kinds_and_cannot_take_one_over(acme: Path) -> None:
    assert "acme.deploy" in names()
    assert registry()["acme.deploy"].name == "acme.deploy"
    assert registry()["shell"].__module__ == "runbook.kinds.shell"


@pytest.mark.parametrize(("name", "said"), [
    ("acme.misnamed", "calls itself 'acme.other'"), ("acme.number", "not a subclass"),
    ("acme.missing", "AttributeError"), ("acme.broken", "no_such_module_at_all"),
])
def test_a_broken_kind_is_told_with_its_package(acme: Path, name: str, said: str) -> None:
    with pytest.raises(NotFound) as found:
        registry()[name]
    assert "acme 1.2" in found.value.message and said in found.value.message
    assert found.value.hint
    assert registry()["acme.deploy"], "the others still work"


def test_two_packages_with_one_name(acme: Path) -> None:
    package(acme, "rival", "[runbook.kinds]\nacme.deploy = acme_kinds:Deploy\n")
    with pytest.raises(NotFound, match="several packages"):
        registry()["acme.deploy"]


def test_every_file_of_a_kind_is_in_the_table() -> None:
    folder = Path(kinds.__file__).parent
    listed = {found.__module__.rpartition(".")[2] for found in registry().values()}
    helpers = {path.stem for path in folder.glob("*_common.py")}
    on_disk = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert on_disk - helpers == listed
