"""PutFile: keep what was there, send the content, and let one job put it in place."""

from __future__ import annotations

import uuid
from pathlib import Path

from runbook.errors import Errored, Refused
from runbook.model.actions import ActionKey, ActionResult, PutFile
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh import commands
from runbook.transports.ssh.jobs import JobRunner
from runbook.transports.ssh.link import Link, tell
from runbook.transports.ssh.output import OutputStream
from runbook.transports.ssh.protocol import forget_request, job_name, saved_name
from runbook.transports.ssh.session import RunnerRefused, SessionLost


class FilePutter:
    """Carries out PutFile actions over a link.

    The prior file is kept by a job of its own, named after ``save_as``: its output is what is
    kept. It runs once for a key, so that a later attempt never keeps the work of an earlier one.
    """

    def __init__(self, jobs: JobRunner, secrets: SecretStore) -> None:
        self._jobs = jobs
        self._secrets = secrets

    def put(
        self, link: Link, action: PutFile, key: ActionKey, *, epoch: int, out: OutputStream,
        err: OutputStream, label: str, begun: str | None,
    ) -> ActionResult:
        """As :meth:`SshPool.perform`."""
        commands.refuse_marks("a path or owner", action.path, action.owner, action.group)
        if not action.path.startswith("/"):
            raise Refused(f"{action.path!r} is not an absolute path")
        if action.save_as is not None:
            failed = self._keep(link, action, epoch, out, err, label, begun)
            if failed is not None:
                return failed
        source, size = self._content(link, action, key, label)
        launch = commands.put_launch(
            action, key, link.host, self._secrets, source=source, size=size
        )
        ended = self._jobs.run(
            link, launch, epoch=epoch, out=out, err=err, label=label, begun=begun
        )
        return commands.put_result(action, ended, err)

    def _keep(
        self, link: Link, action: PutFile, epoch: int, out: OutputStream, err: OutputStream,
        label: str, begun: str | None,
    ) -> ActionResult | None:
        """A result only where the prior file cannot be kept. It only reads, so a lost job is
        begun again, and one that failed is forgotten."""
        launch = commands.save_launch(action, link.host, self._secrets)
        ended = self._jobs.run(
            link, launch, epoch=epoch, out=out, err=err, label=label, begun=begun, repeatable=True
        )
        if ended.code == 0:
            err.restart()
            return None
        tell(link, forget_request(epoch, launch.job))
        result = commands.put_result(action, ended, err)
        return result.model_copy(update={"detail": f"cannot keep the prior file: {result.detail}"})

    def _content(
        self, link: Link, action: PutFile, key: ActionKey, label: str
    ) -> tuple[str, int]:
        """Path in the spool, and size, of what the job reads."""
        content = action.content
        if content is None:
            return "", 0
        try:
            if content.saved is not None:
                with link.session() as session:
                    return f"{session.hello.root}/{saved_name(content.saved)}/out", 0
            data: Path | bytes
            if content.local is not None:
                data = Path(content.local)
                if not data.is_file():
                    raise Errored(f"{data} does not exist on the controller; nothing was changed")
                size = data.stat().st_size
            else:
                data = self._secrets.resolve_marks(content.text or "").encode()
                size = len(data)
            return self._send(link, job_name(key), data, label), size
        except RunnerRefused as fault:
            raise Errored(f"{label}: {fault}; the file was not touched") from fault

    def _send(self, link: Link, job: str, data: Path | bytes, label: str) -> str:
        pauses = self._jobs.pauses()
        while True:
            try:
                return link.upload(f"{job}^{uuid.uuid4().hex}", data)
            except SessionLost as fault:
                if next(pauses, False) is False:
                    raise Errored(
                        f"{label}: the content cannot be sent ({fault}); the file was not touched"
                    ) from fault
