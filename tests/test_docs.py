"""What is there is documented, and what is documented is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runbook.cli.main import COMMANDS, load
from runbook.errors import ExitCode
from runbook.kinds import registry
from runbook.sandbox import config
from runbook.views.sandbox_file import EXAMPLE, describe_sandbox
from tests.cli.running import runbook

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_loads(name: str) -> None:
    assert f"`runbook {name}" in README
    assert load(name).name == name


@pytest.mark.parametrize("name", registry())
def test_every_kind_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_every_command_module_is_in_the_table() -> None:
    modules = {p.stem for p in (ROOT / "runbook" / "cli").glob("*.py")
               if re.search(r"^def command\(", p.read_text(), re.MULTILINE)}
    assert modules == {name.replace("continue", "continue_") for name in COMMANDS}


def test_every_key_of_a_sandbox_file_is_explained(tmp_path: Path) -> None:
    sections = describe_sandbox()["sections"]
    models = {model for model in vars(config).values()
              if isinstance(model, type) and issubclass(model, config._Section)}
    assert len(sections) == len(models) - 1, "each has a section, but for their base"
    shown = " ".join(runbook(tmp_path, "explain", "sandbox").stdout.split())
    for section in sections:
        assert section["text"] in shown
        for key in section["keys"]:
            first = " ".join(key["description"].split()[:3])
            assert first and f"{key['key']} {key['type'][:20]}" in shown and first in shown, key
    assert "`PORT_80`" in shown


def test_the_example_of_a_sandbox_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "shop.example.zone").touch()
    (tmp_path / "sandbox.yml").write_text(EXAMPLE)
    assert config.load_config(tmp_path / "sandbox.yml").hosts["east-web"].programs[0].listen == [80]


def test_every_exit_code_is_in_the_readme() -> None:
    table = README[README.index("Exit codes:"):]
    table = " ".join(table[: table.index("\n\n")].split())
    told = {int(number) for number in re.findall(r"\b(\d+) [a-z]", table)}
    assert told == {int(code) for code in ExitCode}


def test_the_front_page_names_every_command(tmp_path: Path) -> None:
    shown = runbook(tmp_path, "--help").stdout
    for name, (panel, _) in COMMANDS.items():
        assert re.search(rf"│ {name} ", shown)
        assert f" {panel} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, name: str) -> None:
    shown = runbook(tmp_path, name, "--help").stdout
    assert COMMANDS[name][1].split(":")[0].rstrip(".") in " ".join(shown.split())
