"""The words that the runner (``runner.sh``) and this side exchange. Pure; no I/O but reading
the program's own text."""

from __future__ import annotations

import functools
import hashlib
import shlex
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from runbook.errors import Refused
from runbook.model.actions import ActionKey

CHUNK = 4 * 1024 * 1024
"""Bytes of each output stream that one answer carries at most."""

QUERY_LIMIT = 16 * 1024 * 1024
"""Bytes of each output stream that a query may print."""

_PLAIN = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-!\"#$&'()*;<>?[]^`{|}~"
)
_ESCAPES = {
    byte: chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in range(256)
} | {0x0A: "\\n", 0x5C: "\\\\"}
_NAME_LIMIT = 180


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``out`` and ``err`` are raw bytes."""

    status: str
    word: str
    out: bytes = b""
    err: bytes = b""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answered: ``marker`` is the identity of this run's spool on the host ("": it has none
    yet); ``root`` the spool's folder; ``boot`` the identity of the host's boot; ``logout`` the file
    that has logind end all that a login has started (KillUserProcesses), or ""."""

    marker: str
    root: str
    boot: str
    epoch: int
    missing: tuple[str, ...]
    logout: str

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        lines = data.decode("utf-8", "surrogateescape").splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return cls(
            marker=found["marker"], root=found["root"], boot=found["boot"],
            epoch=int(found["epoch"]), missing=tuple(found["missing"].split()),
            logout=found["logout"],
        )


@dataclass(frozen=True, slots=True)
class Launch:
    """A job to start, or to attach to when it has been started before. ``hash`` tells one
    action from another under the same job. ``exports`` (shell text) and ``password`` hold secrets
    and reach neither a command line nor the spool."""

    job: str
    hash: str
    script: str
    exports: str = field(default="", repr=False)
    cwd: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    input: str = ""
    limit: int = 0
    """Whole seconds after which the process group is killed; 0: never."""
    keeps_output: bool = False
    """Standard output stays in the spool; it is not fetched."""

    def request(self, epoch: int, marker: str, wait: int, offsets: tuple[int, int]) -> str:
        return " ".join((
            "launch", self.job, str(epoch), marker, self.hash, str(wait), str(offsets[0]),
            str(offsets[1]), str(CHUNK), str(self.limit), text(self.user), text(self.cwd),
            text(self.input), text(self.password), text(self.exports), text(self.script),
        ))


def text(value: str) -> str:
    """A word that carries any text: ``=`` and the escapes that ``printf %b`` undoes. Raises
    Refused for a NUL, which no shell can be given."""
    raw = value.encode("utf-8", "surrogateescape")
    if 0 in raw:
        raise Refused(
            "a NUL byte cannot be given to a shell, in a command, its environment or a path",
            hint="where it is from an output of an earlier step, let that step print it without",
        )
    return "=" + "".join(map(_ESCAPES.__getitem__, raw))


def plain_request(
    script: str, *, limit: int, user: str, cwd: str, password: str, exports: str
) -> str:
    return " ".join((
        "plain", str(limit), str(QUERY_LIMIT), text(user), text(cwd), text(password),
        text(exports), text(script),
    ))


def wait_request(job: str, digest: str, wait: int, offsets: tuple[int, int]) -> str:
    return f"wait {job} {digest} {wait} {offsets[0]} {offsets[1]} {CHUNK}"


def kill_request(epoch: int, job: str, digest: str, user: str, password: str) -> str:
    return f"kill {epoch} {job} {digest} {text(user)} {text(password)}"


def forget_request(epoch: int, job: str) -> str:
    return f"forget {epoch} {job}"


def exports_of(env: Mapping[str, str]) -> str:
    """Shell text that exports the variables. Names must be identifiers (POSIX XBD 8.1)."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())


def job_name(key: ActionKey) -> str:
    """Folder of a job in the spool: the key without its run, in characters safe everywhere."""
    return safe_name(f"{key.node}.{key.op}.{key.attempt}.{key.index}")


def saved_name(key: str) -> str:
    """Folder of the job that keeps the prior state of a file."""
    return safe_name(f"saved.{key}")


def safe_name(name: str) -> str:
    """One path component, different for different names; never ``.``, ``..`` or hidden."""
    quoted = urllib.parse.quote(name, safe="@+,=:")
    if quoted.startswith((".", "-")):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > _NAME_LIMIT:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        quoted = f"{quoted[: _NAME_LIMIT - 33]}~{digest}"
    return quoted


@functools.cache
def program() -> str:
    """The runner's function definitions, without comments: less to send."""
    as_words = _source("as_words.sh")
    texts = {
        "R_SUPERVISOR": as_words + _source("supervisor.sh"), "R_INNER": _source("other_user.sh"),
    }
    sets = "".join(f"{name}={shlex.quote(text)}\n" for name, text in texts.items())
    parts = "".join(map(_source, ("logind.sh", "queries.sh", "kill.sh", "runner.sh")))
    return f"{as_words}r_texts() {{\n{sets}}}\n{parts}"


def _source(name: str) -> str:
    source = resources.files(__package__).joinpath(name).read_text(encoding="ascii")
    lines = (line for line in source.splitlines() if not line.lstrip().startswith("#"))
    return "".join(f"{line}\n" for line in lines if line.strip())


def start_line(nonce: str, base: str, run: str, shell: str) -> str:
    """The last line of the program, the one that starts it."""
    return " ".join(["r_main", nonce, *map(shlex.quote, (base, run, shell)), "."]) + "\n"
