"""RunCommand and PutFile in the terms of the runner: what to launch, and what its end means."""

from __future__ import annotations

import hashlib
import math
import re

from runbook.errors import Refused
from runbook.model.actions import ActionKey, ActionResult, PutFile, RunCommand
from runbook.model.duration import LONGEST
from runbook.model.inventory import Host
from runbook.model.secrets import names_in
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh import putfile
from runbook.transports.ssh.jobs import Ended
from runbook.transports.ssh.output import OutputStream
from runbook.transports.ssh.protocol import Launch, exports_of, job_name, saved_name

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_LIMIT = 96 * 1024


def digest(action: RunCommand | PutFile) -> str:
    """Tells one action from another; made of marks, never of a secret's value."""
    return hashlib.sha256(action.model_dump_json().encode()).hexdigest()


def limit(seconds: float | None) -> int:
    """Whole seconds for the runner; 0 for none. Raises Refused for what is no time."""
    if seconds is None:
        return 0
    if not seconds <= LONGEST:
        raise Refused(f"a timeout of {seconds:g} s is more than can be waited")
    return max(1, math.ceil(seconds))


def environment(env: dict[str, str], secrets: SecretStore) -> str:
    """Shell text that exports the variables, secrets put in. Raises Refused or Errored."""
    for name in env:
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is not a name for an environment variable")
    text = exports_of({name: secrets.resolve_marks(value) for name, value in env.items()})
    if len(text) > _ENV_LIMIT:
        raise Refused(
            f"the environment of a command is larger than {_ENV_LIMIT // 1024} KiB",
            hint="put the data into a file (kind `file`) and read it from there",
        )
    return text


def password(host: Host | None, run_as: str | None, secrets: SecretStore) -> str:
    """The sudo password, where one is declared and another user is wanted."""
    if run_as and host is not None and host.become:
        return secrets.value(host.become)
    return ""


def refuse_marks(what: str, *texts: str | None) -> None:
    """Raises Refused for a secret's mark where its value would be written down."""
    for text in texts:
        found = names_in(text or "")
        if found:
            raise Refused(
                f"secret {found[0]!r} is used in {what}, where it would be seen by others",
                hint="pass it through `env:` and use the variable",
            )


def command_launch(
    action: RunCommand, key: ActionKey, host: Host | None, secrets: SecretStore
) -> Launch:
    """Raises Refused (a mark out of place) or Errored (a secret that cannot be read)."""
    refuse_marks("a script", action.script)
    refuse_marks("a working directory or user name", action.cwd, action.run_as)
    return Launch(
        job=job_name(key), hash=digest(action), script=action.script,
        exports=environment(action.env, secrets), cwd=action.cwd or "",
        user=action.run_as or "", password=password(host, action.run_as, secrets),
        limit=limit(action.timeout),
    )


def command_result(
    action: RunCommand, ended: Ended, out: OutputStream, err: OutputStream,
    duration: float | None,
) -> ActionResult:
    code = ended.code
    ok = code in action.ok_codes and not ended.timed_out
    if ended.timed_out:
        detail = f"killed after its timeout of {limit(action.timeout)} s"
    else:
        detail = f"exit code {code}"
    last = _last_line(err.head) or _last_line(out.head)
    if not ok and last:
        detail = f"{detail}: {last}"
    return ActionResult(ok=ok, detail=detail, data={
        "exit_code": code, "stdout": out.head, "stderr": err.head,
        "stdout_path": str(out.path), "stderr_path": str(err.path),
        "duration": None if duration is None else round(duration, 3),
        **({"stdout_cut": True} if out.cut else {}),
    })


def put_launch(
    action: PutFile, key: ActionKey, host: Host | None, secrets: SecretStore, *,
    source: str, size: int,
) -> Launch:
    """``source``: path in the spool of the content, or of what was saved; "" for a removal."""
    if action.content is None:
        script = putfile.remove_script(action.path)
    elif action.content.saved is not None:
        script = putfile.restore_script(action.path)
    else:
        script = putfile.put_script(
            action.path, size=size, mode=action.mode, owner=action.owner, group=action.group
        )
    return Launch(
        job=job_name(key), hash=digest(action), script=script, user=action.run_as or "",
        password=password(host, action.run_as, secrets), input=source, limit=0,
    )


def save_launch(action: PutFile, host: Host | None, secrets: SecretStore) -> Launch:
    """The job that keeps the prior file: its output *is* what is kept."""
    assert action.save_as is not None
    return Launch(
        job=saved_name(action.save_as), hash=saved_digest(action.save_as, action.path),
        script=putfile.save_script(action.path), user=action.run_as or "",
        password=password(host, action.run_as, secrets), keeps_output=True,
    )


def saved_digest(save_as: str, path: str) -> str:
    """Ties what is kept under a key to one path."""
    return hashlib.sha256(f"{save_as}\0{path}".encode()).hexdigest()


def put_result(action: PutFile, ended: Ended, err: OutputStream) -> ActionResult:
    if ended.code is None:
        return ActionResult(
            ok=False, detail=f"{action.path}: the content is no longer in the host's spool; "
            "the file was not touched",
        )
    if ended.code == 0:
        done = "removed" if action.content is None else "written"
        if action.content is not None and action.content.saved is not None:
            done = "put back as it was"
        return ActionResult(ok=True, detail=f"{action.path} {done}", data={"exit_code": 0})
    why = _last_line(err.head) or f"exit code {ended.code}"
    return ActionResult(
        ok=False, detail=f"{action.path}: {why}",
        data={"exit_code": ended.code, "stderr": err.head},
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
