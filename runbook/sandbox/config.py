"""What ``sandbox.yml`` says: the world in which a runbook is rehearsed.

The plan gives hosts, sites and zones; this file gives what runs on the hosts, the content of the
zones, and values that stand for the real secrets. Docstrings and the texts under the fields are the
documentation of the file (``runbook explain sandbox``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from runbook.errors import Diagnostic, InvalidInput, Position
from runbook.model.duration import parse_duration
from runbook.model.runbook import ValuePath
from runbook.sandbox.faults import Fault, invalid
from runbook.templating.values import did_you_mean

Seconds = Annotated[
    float, BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "format": "duration"}),
]

_SAY = (
    (r"Value error, ", ""),
    (r"Input should be ", "has to be "),
    (r"a valid (dictionary|mapping)( or .*)?$", "a mapping"),
    (r"a valid string", "a text"),
    (r"a valid list", "a list"),
    (r"a valid (integer|number).*$", "a number"),
    (r"a valid boolean.*$", "true or false"),
)

_BESIDE = "paths start at the folder of sandbox.yml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TimeConfig(_Section):
    """How fast waits pass. Work always takes the real time it takes."""

    scale: float = Field(default=60.0, ge=1)
    """Least speed of a wait."""
    longest_wait: Seconds = Field(default=3.0, gt=0)
    """Greatest length of a wait in real seconds; longer ones run faster."""


class FileConfig(_Section):
    """A file of a host: `from` or `text`. A path alone is short for `{from: path}`."""

    source: str | None = Field(default=None, alias="from")
    """A path beside sandbox.yml; a folder is copied whole."""
    text: str | None = None
    """What stands in it."""
    mode: str | None = None
    """Octal, in quotes: `"0644"`."""


class ProgramConfig(_Section):
    """A service of a host, under the name that `systemctl` knows it by.

    It is a real process of this machine. So it must not listen at the ports of `listen` themselves,
    but at the free port of 127.0.0.1 that stands for each of them, which it finds in its
    environment: `PORT` for the first, `PORT_80` for 80, and so on. Whoever asks in the sandbox for
    the host's port 80 is led there.
    """

    name: str
    """As in `systemctl start NAME`."""
    command: str
    """Run by /bin/sh in the host's folder; it stays in the foreground."""
    listen: list[int | str] = Field(default_factory=list)
    """Ports, at every address of the host; or `address:port`. It has started once it listens at
    what stands for all of them."""
    env: dict[str, str] = Field(default_factory=dict)
    """Further environment."""
    enabled: bool = True
    """As `systemctl is-enabled` says."""
    start: bool = True
    """Runs when the world begins."""


def _as_file(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


class HostConfig(_Section):
    """A host of the inventory: a folder with an SSH server and real processes. Paths are relative
    to its login folder."""

    files: dict[str, Annotated[FileConfig, BeforeValidator(_as_file)]] = Field(
        default_factory=dict
    )
    """What is in the folder at the beginning, by path: a path beside sandbox.yml, or a mapping."""
    programs: list[ProgramConfig] = Field(default_factory=list)
    """Its services."""
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
    """What it POSTs."""
    id_field: str = "id"
    """Name in the JSON answer of a write of what identifies it in the audit."""
    audit: str | None = None
    """URL that lists the identities of all writes kept, as a JSON list. Its name is resolved at
    the authoritative server, so it is asked on the side that the zone names at that time."""
    fallback: str | None = None
    """A text that marks a fallback page."""
    writers: int = Field(default=2, ge=0)
    """How many write at the same time."""
    readers: int = Field(default=1, ge=0)
    """How many read at the same time."""
    pause: Seconds = Field(default=0.04, ge=0)
    """Real seconds between two requests of one client."""
    timeout: Seconds = Field(default=2.0, gt=0)
    """Real seconds after which a request has failed."""
    longest: Seconds = Field(default=900.0, gt=0)
    """Real seconds after which the client ends by itself."""


class SandboxConfig(_Section):
    """The world of `rehearse --level sandbox`: a file `sandbox.yml` beside the runbook. The runbook
    gives hosts, sites and zones; this file says what they begin with. Every key may be left out."""

    time: TimeConfig = TimeConfig()
    """How fast waits pass."""
    zones: dict[str, str] = Field(default_factory=dict)
    """Path of the zone file beside sandbox.yml, by zone name; else the runbook's own `file:`."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Values that stand for the real secrets, by the runbook's name of the secret. That of a zone's
    key (TSIG) is written `name:algorithm:base64`."""
    hosts: dict[str, HostConfig] = Field(default_factory=dict)
    """By their name in the inventory."""
    routes: dict[str, str] = Field(default_factory=dict)
    """Further `address:port` that lead to an `address:port` of a program."""
    traffic: TrafficConfig | None = None
    """The outside client, which measures outages; without it nobody is at work."""


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
        config = SandboxConfig.model_validate({} if data is None else data)
    except ValidationError as fault:
        raise invalid(path, _in_words(fault, data)) from fault
    wrong = list(_check(config, path))
    if wrong:
        raise invalid(path, wrong)
    return config


def _in_words(fault: ValidationError, data: Any) -> list[Fault]:
    """What the shape says; of several types that would do, the first is told."""
    found: dict[tuple[ValuePath, str], Fault] = {}
    for item in fault.errors(include_url=False, include_context=False):
        path = tuple(item["loc"])
        if item["type"] == "missing":
            one = Fault(path[:-1], f"`{path[-1]}` is missing")
        elif item["type"] == "extra_forbidden":
            one = Fault(path, "unknown key", did_you_mean(str(path[-1]), _keys_at(path[:-1])), True)
        else:
            text = str(item["msg"])
            for pattern, said in _SAY:
                text = re.sub(pattern, said, text)
            one = Fault(_written(path, data), text)
        found.setdefault((one.path, one.message if item["type"] == "missing" else ""), one)
    return list(found.values())


def _written(path: ValuePath, data: Any) -> ValuePath:
    """The part of a path that is there: the rest names one of several types."""
    for length, part in enumerate(path):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return path[:length]
    return path


def _keys_at(path: ValuePath) -> list[str]:
    """The keys that are known at a place of the file."""
    here: Any = SandboxConfig
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields.items()
            here = next(one.annotation for name, one in fields if part in (name, one.alias))
        else:
            here = get_args(here)[-1]
        if get_origin(here) not in (dict, list):
            here = next((one for one in get_args(here) if _is_section(one)), here)
    return [one.alias or name for name, one in here.model_fields.items()]


def _is_section(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, _Section)


def _check(config: SandboxConfig, path: Path) -> Iterator[Fault]:
    """What the shape alone does not say: paths that exist, one source a file, octal modes."""
    for zone, file in config.zones.items():
        if not (path.parent / file).is_file():
            yield Fault(("zones", zone), f"there is no file {file}", _BESIDE)
    for name, host in config.hosts.items():
        for dest, item in host.files.items():
            where = ("hosts", name, "files", dest)
            if dest.startswith("/") or ".." in Path(dest).parts:
                yield Fault(where, "paths are relative to the login folder", key=True)
            if (item.source is None) == (item.text is None):
                yield Fault(where, "needs either `from` or `text`", key=True)
            elif item.source is not None and not (path.parent / item.source).exists():
                yield Fault(where, f"there is no {item.source}", _BESIDE)
            if item.mode is not None and not _octal(item.mode):
                yield Fault((*where, "mode"), f'mode {item.mode} is not octal, like "0644"')
        names = [program.name for program in host.programs]
        for index, program in enumerate(host.programs):
            at = ("hosts", name, "programs", index)
            if program.name in names[:index]:
                yield Fault((*at, "name"), "a name is used twice")
            for number, port in enumerate(program.listen):
                if not _port(port):
                    yield Fault((*at, "listen", number), f"listen {port} is no port")


def _octal(text: str) -> bool:
    return text.isdigit() and all(c in "01234567" for c in text) and len(text) <= 4


def _port(value: int | str) -> bool:
    text = str(value).rpartition(":")[2]
    return text.isdigit() and 0 < int(text) < 65536
