"""What ``file`` and ``template`` share: making one file so, and putting it back."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any

from pydantic import AfterValidator

from runbook.errors import Errored
from runbook.kinds._shared import sha256, whose
from runbook.model.actions import Action, FileContent, PutFile
from runbook.model.observation import Irreversible, Observation
from runbook.model.ports import FileState, HostReads, Reads
from runbook.model.secrets import names_in

_OCTAL = re.compile(r"0?[0-7]{3,4}")


def _octal(text: str) -> str:
    if not _OCTAL.fullmatch(text):
        raise ValueError('a mode is written in octal and in quotes, like "0644"')
    return f"{int(text, 8):04o}"


Mode = Annotated[str, AfterValidator(_octal)]
MODE_HELP = 'Permissions in octal, in quotes: "0640". Not given: left as they are.'


def observe_file(reads: Reads, path: str) -> Observation:
    """The file as it is. State: ``exists`` and, where it does, ``kind sha256 mode owner group``."""
    full = path if path.startswith("/") else _from_home(reads.here, path)
    found = reads.here.file(full)
    evidence = {**whose(reads), "path": full, "save_as": reads.key, "size": found.size}
    return Observation(state=_state(found), evidence=evidence, at=reads.now())


def _from_home(here: HostReads, path: str) -> str:
    home = here.query('printf %s "$HOME"').stdout
    if not home.startswith("/"):
        raise Errored(f"{path} is a relative path, and the host has no home folder to start from")
    return posixpath.join(home, path)


def _state(found: FileState) -> dict[str, Any]:
    if not found.exists:
        return {"exists": False}
    return {
        "exists": True, "kind": found.kind, "sha256": found.sha256, "mode": f"{found.mode:04o}",
        "owner": found.owner, "group": found.group,
    }


def digest_of(text: str) -> str | None:
    """sha256 of a content; None where secrets stand in it, which are put in only on the way."""
    return None if names_in(text) else sha256(text.encode())


def unlike(state: dict[str, Any], wanted: dict[str, str | None]) -> list[str]:
    """What is not as wanted, each in words; keys without a wanted value do not count."""
    if not state.get("exists"):
        return ["it does not exist"]
    if state.get("kind") != "file":
        return [f"it is a {state.get('kind')}, not a file"]
    return [
        "the content differs" if key == "sha256" else f"{key} is {state.get(key)}, not {value}"
        for key, value in wanted.items()
        if value is not None and state.get(key) != value
    ]


def put(
    before: Observation, path: str, content: FileContent | None, *, mode: str | None = None,
    owner: str | None = None, group: str | None = None,
) -> PutFile:
    """The action that writes or removes the file and keeps the prior one on the host."""
    return PutFile(
        host=before.evidence.get("host"), path=before.evidence.get("path", path), content=content,
        mode=int(mode, 8) if mode is not None else None, owner=owner, group=group,
        save_as=before.evidence.get("save_as"),
    )


def put_back(before: Observation, path: str) -> tuple[Action, ...] | Irreversible:
    """The actions that make the file what it was, byte for byte, or remove it."""
    state, host = before.state, before.evidence.get("host")
    path = before.evidence.get("path", path)
    if not state.get("exists"):
        return (PutFile(host=host, path=path, content=None),)
    if state.get("kind") not in {"file", "link"}:
        return Irreversible(why=f"{path} was a {state.get('kind')}, of which no copy is kept")
    return (
        PutFile(
            host=host, path=path, content=FileContent(saved=before.evidence.get("save_as")),
            mode=int(state["mode"], 8), owner=state["owner"], group=state["group"],
        ),
    )
