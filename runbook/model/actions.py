"""The closed set of primitive effects. A kind plans actions; a transport carries them out.

Actions are values: they can be journaled before they happen, shown by ``runbook plan``, and
compared in a test. They hold secrets only as marks (see :mod:`runbook.model.secrets`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runbook.model.dns import Change


class _Action(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunCommand(_Action):
    """Run a POSIX-sh script on a host (or, with ``host`` None, on the controller), at most once.

    It outlives the connection. ``ok_codes`` are the exit codes that count as success.
    """

    action: Literal["run_command"] = "run_command"
    host: str | None
    script: str
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    run_as: str | None = None
    timeout: float | None = None
    ok_codes: tuple[int, ...] = (0,)
    idempotent: bool = False
    """Safe to repeat when its outcome is unknown."""


class FileContent(_Action):
    """Where the new content of a file comes from: exactly one of the four."""

    text: str | None = None
    local: str | None = None
    """Path of a file on the controller."""
    saved: str | None = None
    """Key under which the target host keeps a prior content (see :class:`PutFile`)."""
    sha256: str | None = None
    """Known digest of the content, for showing and for the plan's digest."""


class PutFile(_Action):
    """Make a file's content, mode and owner so, by an atomic rename, or remove it.

    ``save_as``: before anything changes, the prior file is kept on the host itself under this
    key, so that undo can put it back exactly and its content never leaves the host.
    """

    action: Literal["put_file"] = "put_file"
    host: str | None
    path: str
    content: FileContent | None = None
    """None: the file shall not exist."""
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    run_as: str | None = None
    save_as: str | None = None


class ChangeRecordSet(_Action):
    """Change record sets of one zone in one update, guarded by their prior values."""

    action: Literal["change_record_set"] = "change_record_set"
    zone: str
    changes: tuple[Change, ...]


ANSWER = "⟦answer⟧"
"""Where in a statement the answer of another server goes, between single quotes."""


class Question(BaseModel):
    """What is asked of a database. It reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str
    statement: str


class ExecuteSql(_Action):
    """Execute statements on a declared database, in order, each committed by itself, until one is
    refused. They are SQL, or for Redis commands as typed (``CLIENT PAUSE 30000 WRITE``).

    A server keeps no record of who asked for what. So a kind guards its statements (``… WHERE
    pg_is_in_recovery()``) and says ``idempotent``; the outcome of others is unknown when the
    connection is lost before the answer came.
    """

    action: Literal["execute_sql"] = "execute_sql"
    database: str
    statements: tuple[str, ...]
    timeout: float = 60.0
    """Seconds for each statement."""
    idempotent: bool = False
    """Safe to repeat when its outcome is unknown."""
    ask: Question | None = None
    """Asked as the action begins, after those before it took effect: its first value stands in
    the place of :data:`ANSWER`."""
    refused_with: tuple[str, ...] = ()
    """Not empty: a *trial*. It is executed as any client would, in a new session with the server's
    own defaults, in one transaction that is rolled back whatever came of it (for Redis: queued
    and discarded). It succeeds when the server refuses a statement with one of these codes."""


class SendRequest(_Action):
    """Send one HTTP request that changes something."""

    action: Literal["send_request"] = "send_request"
    method: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    via: str | None = None
    """A host of the inventory to send it from; None: the controller."""
    ok_status: tuple[int, ...] = (200, 201, 202, 204)
    timeout: float = 30.0
    idempotent: bool = False


class WaitFor(_Action):
    """Wait until a moment of the run's clock (Unix seconds). ``why`` shows the arithmetic."""

    action: Literal["wait_for"] = "wait_for"
    until: float
    why: str
    after_last: float = 0.0
    """Seconds that shall also have passed since the action before this one ended: a hold is as
    long as it was meant to be, however late it begins."""


class Confirm(_Action):
    """Hold the step's own ``verify:`` checks against the world before the actions after this one.

    Where they do not hold, or nobody can tell, none of those is begun: the step has failed and
    goes back at once, by its own undo, whatever becomes of the run.
    """

    action: Literal["confirm"] = "confirm"
    what: str
    """What is thereby confirmed, for people."""


class AskOperator(_Action):
    """Stop until people have answered. Answers are journaled with who gave them and why."""

    action: Literal["ask_operator"] = "ask_operator"
    question: str
    roles: tuple[str, ...] = ()
    """Roles of which each must have answered at least once; empty: anybody."""
    quorum: int = 1
    evidence: bool = False
    """The answer must carry a text of evidence."""
    reason: bool = False
    """Who says yes must say why."""
    errand: bool = False
    """Something that people are to do, and no decision of theirs: the step may be left out while
    it asks."""


class Notify(_Action):
    """Tell people. It can never fail a step."""

    action: Literal["notify"] = "notify"
    channel: str
    message: str
    severity: str = "info"


Action = Annotated[
    RunCommand
    | PutFile
    | ChangeRecordSet
    | ExecuteSql
    | SendRequest
    | WaitFor
    | Confirm
    | AskOperator
    | Notify,
    Field(discriminator="action"),
]


class ActionKey(BaseModel):
    """Identity of one performance of one action: the at-most-once key, everywhere the same."""

    model_config = ConfigDict(frozen=True)

    run: str
    node: str
    op: Literal["do", "undo"]
    attempt: int
    index: int
    epoch: int = 0

    def __str__(self) -> str:
        return f"{self.run}/{self.node}/{self.op}/{self.attempt}/{self.index}"


class ActionResult(BaseModel):
    """What came of an action whose outcome is known.

    ``ok`` false means the world said no (*failed*). When nobody could be asked the transport
    raises :class:`~runbook.errors.Errored` (nothing was changed) or
    :class:`~runbook.errors.InDoubt` (something may have been).
    """

    model_config = ConfigDict(frozen=True)

    ok: bool
    detail: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    """JSON values. Commands: ``exit_code``, ``stdout``, ``stderr`` (the first 64 KiB each),
    ``stdout_path``, ``stderr_path`` (whole output, on the controller), ``duration``, and
    ``stdout_cut`` where more was printed than ``stdout`` holds."""
