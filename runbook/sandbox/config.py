"""What ``sandbox.yml`` says: the world in which a runbook is rehearsed.

The plan gives hosts, sites and zones; this file gives what runs on the hosts, the content of the
zones, and values that stand for the real secrets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runbook.errors import Diagnostic, InvalidInput, Position
from runbook.model.duration import parse_duration

Seconds = Annotated[float, BeforeValidator(parse_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeConfig(_Section):
    """How fast waits pass. Work always takes the real time it takes."""

    scale: float = Field(default=60.0, ge=1)
    """Least speed of a wait."""
    longest_wait: Seconds = Field(default=3.0, gt=0)
    """Greatest length of a wait in real seconds; longer ones run faster."""


class FileConfig(_Section):
    """A file of a host: ``from`` a path beside sandbox.yml (a folder is copied whole), or an
    inline ``text``."""

    source: str | None = Field(default=None, alias="from")
    text: str | None = None
    mode: str | None = None
    """Octal, in quotes: ``"0644"``."""


class ProgramConfig(_Section):
    """A service of a host, under the name that ``systemctl`` knows it by.

    It learns its ports from the environment: ``PORT`` (the first) and ``PORT_80`` (each).
    """

    name: str
    command: str
    listen: list[int | str] = Field(default_factory=list)
    """Ports, at every address of the host; or ``address:port``."""
    env: dict[str, str] = Field(default_factory=dict)
    enabled: bool = True
    start: bool = True
    """Runs when the world begins."""


def _as_file(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


class HostConfig(_Section):
    files: dict[str, Annotated[FileConfig, BeforeValidator(_as_file)]] = Field(
        default_factory=dict
    )
    """By their path relative to the login folder."""
    programs: list[ProgramConfig] = Field(default_factory=list)
    addresses: list[str] = Field(default_factory=list)
    """Addresses at which its programs listen; without any, the inventory's address."""
    volatile: list[str] = Field(default_factory=list)
    """Patterns of paths that a comparison of two states of the world leaves out."""
    live: list[str] = Field(default_factory=list)
    """Patterns of paths that customers write to: compared by existence and mode only."""


class TrafficConfig(_Section):
    """The outside client: what it reads and writes, and how often."""

    read: list[str] = Field(default_factory=list)
    """URLs of pages, asked for in turn by every reader."""
    write: str | None = None
    """URL to which every writer POSTs."""
    write_body: str = "{}"
    id_field: str = "id"
    """Name in the JSON answer of a write of what identifies it in the audit."""
    audit: str | None = None
    """URL that lists the identities of all writes kept, as a JSON list. Its name is resolved at
    the authoritative server, so it is asked on the side that the zone names at that time."""
    fallback: str | None = None
    """A text that marks a fallback page."""
    writers: int = Field(default=2, ge=0)
    readers: int = Field(default=1, ge=0)
    pause: Seconds = Field(default=0.04, ge=0)
    """Real seconds between two requests of one client."""
    timeout: Seconds = Field(default=2.0, gt=0)
    """Real seconds after which a request has failed."""
    longest: Seconds = Field(default=900.0, gt=0)
    """Real seconds after which the client ends by itself."""


class SandboxConfig(_Section):
    """The whole of ``sandbox.yml``."""

    time: TimeConfig = TimeConfig()
    zones: dict[str, str] = Field(default_factory=dict)
    """Path of the zone file by zone name."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Values that stand for the real secrets, by the runbook's name of the secret."""
    hosts: dict[str, HostConfig] = Field(default_factory=dict)
    routes: dict[str, str] = Field(default_factory=dict)
    """Further ``address:port`` that lead to an ``address:port`` of a program."""
    traffic: TrafficConfig | None = None


def load_config(path: Path) -> SandboxConfig:
    """Read ``sandbox.yml``. Raises InvalidInput with every fault and the file's name."""
    start = Position(path, 1, 1)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InvalidInput((Diagnostic(f"cannot be read: {fault.strerror}", start),)) from fault
    except UnicodeDecodeError as fault:
        raise InvalidInput((Diagnostic(f"is not UTF-8: {fault.reason}", start),)) from fault
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        where = Position(path, mark.line + 1, mark.column + 1) if mark else start
        raise InvalidInput((Diagnostic(f"not valid YAML: {fault.problem}", where),)) from fault
    try:
        config = SandboxConfig.model_validate(data or {})
    except ValidationError as fault:
        raise InvalidInput(
            tuple(
                Diagnostic(
                    f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}",
                    start,
                )
                for item in fault.errors()
            )
        ) from fault
    _check(config, path)
    return config


def _check(config: SandboxConfig, path: Path) -> None:
    """What the shape alone does not say: paths that exist, one source a file, octal modes."""
    wrong: list[str] = []
    for zone, file in config.zones.items():
        if not (path.parent / file).is_file():
            wrong.append(f"zones.{zone}: there is no file {file}")
    for name, host in config.hosts.items():
        for dest, item in host.files.items():
            where = f"hosts.{name}.files.{dest}"
            if dest.startswith("/") or ".." in Path(dest).parts:
                wrong.append(f"{where}: paths are relative to the login folder")
            if (item.source is None) == (item.text is None):
                wrong.append(f"{where}: needs either `from` or `text`")
            elif item.source is not None and not (path.parent / item.source).exists():
                wrong.append(f"{where}: there is no {item.source}")
            if item.mode is not None and not _octal(item.mode):
                wrong.append(f'{where}: mode {item.mode} is not octal, like "0644"')
        names = [program.name for program in host.programs]
        if len(set(names)) != len(names):
            wrong.append(f"hosts.{name}.programs: a name is used twice")
        for program in host.programs:
            for port in program.listen:
                if not _port(port):
                    wrong.append(f"hosts.{name}.programs.{program.name}: listen {port} is no port")
    if wrong:
        raise InvalidInput(tuple(Diagnostic(text, Position(path, 1, 1)) for text in wrong))


def _octal(text: str) -> bool:
    return text.isdigit() and all(c in "01234567" for c in text) and len(text) <= 4


def _port(value: int | str) -> bool:
    text = str(value).rpartition(":")[2]
    return text.isdigit() and 0 < int(text) < 65536
