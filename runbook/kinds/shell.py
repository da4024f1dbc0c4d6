"""The kind ``shell``."""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from runbook.kinds._shared import SHOWN, Command, Numbers, Plain, holds, seen, sha256, tail, whose
from runbook.kinds.needs_common import Seen, first_word, need, place, program_is_there
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class CommandKind(Kind):
    """What ``shell`` and ``script`` share: how to tell whether the work is already done."""

    # `env: {PORT: 8080}` and `args: [42]` mean texts.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    estimate: ClassVar[float] = 5.0
    by_keys: ClassVar[bool] = True

    creates: Plain | None = Field(
        default=None,
        description="Path (from `cwd`, if relative) that exists once the work is done: where it "
        "exists nothing is run, and afterwards it must exist.",
    )
    done_when: Command | None = Field(
        default=None,
        description="Read-only command that exits with 0 once the work is done: then nothing is "
        "run, and afterwards it must hold. It also settles the doubt after a crash. One that asks "
        "another machine over ssh should end with ssh's own status: 255 means that nobody could "
        "be asked, and not that the work is not done.",
    )
    probe: Command | None = Field(
        default=None,
        description="Read-only command that prints the state this step changes. It is recorded "
        "before and after, and an undo counts as complete only if it prints the same again.",
    )
    cwd: Plain | None = Field(default=None, description="Directory to run in.")
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables; secrets may stand in them."
    )
    ok_codes: Numbers = Field(
        default=(0,), description="Exit statuses that count as success."
    )
    repeatable: bool = Field(
        default=False,
        alias="idempotent",
        description="True: running it twice does no harm, so it may be run again when nobody "
        "knows whether it was run.",
    )

    def observe(self, reads: Reads) -> Observation:
        here = reads.here
        state: dict[str, Any] = {}
        evidence = whose(reads)
        done: list[bool] = []
        if self.creates is not None:
            exists = here.file(posixpath.join(self.cwd or "", self.creates)).exists
            evidence["creates"] = exists
            done.append(exists)
        if self.done_when is not None:
            held, result = holds(here, self.done_when, env=self.env, cwd=self.cwd)
            evidence["done_when"] = seen(result)
            done.append(held)
        if done:
            state["done"] = all(done)
        if self.probe is not None:
            _, result = holds(here, self.probe, env=self.env, cwd=self.cwd)
            state["probe"] = {
                "exit_code": result.exit_code,
                "stdout": result.stdout[:SHOWN],
                "sha256": sha256(result.stdout.encode()),
            }
        return Observation(state=state, evidence=evidence, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        if before.state.get("done") is True:
            return Planned(reason=f"already done: {self._proof()}")
        return Planned(
            actions=(
                RunCommand(
                    host=before.evidence.get("host"),
                    script=self.text(before),
                    env=self.env,
                    cwd=self.cwd,
                    ok_codes=self.ok_codes,
                    idempotent=self.repeatable,
                ),
            )
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        outputs = {}
        if self.probe is not None:
            outputs["probe"] = str(after.state.get("probe", {}).get("stdout", "")).strip()
        done = after.state.get("done")
        if done is None:
            return Verdict(
                ok=True, seen=tail(outputs.get("probe", "")) or "it ended well", outputs=outputs
            )
        if done:
            return Verdict(ok=True, seen=self._proof(), outputs=outputs)
        missing = [f"{self.creates} does not exist"] if not after.evidence.get(
            "creates", True
        ) else [f"`{self.done_when}` gave {after.evidence.get('done_when')}"]
        return Verdict(ok=False, seen=f"it ran, but {missing[0]}", outputs=outputs)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The folder it runs in, and the program that it begins with; the host's shell has to find
        no error in the command."""
        here, found = reads.here, []
        if self.cwd is not None:
            folder = self.cwd

            def look() -> Seen:
                there = here.file(folder)
                return Seen(there.kind in {"directory", "link"}, there.kind or "it does not exist")

            found.append(need(
                f"there is the folder {folder} to run in", look, made_by=place(here),
                hint="make it, or mend `cwd`",
            ))
        program = self.program()
        # A path that begins elsewhere is looked for from there.
        if program and ("/" not in program or program.startswith("/")):
            found.append(program_is_there(here, program))
        return tuple(found)

    def program(self) -> str:
        """The program that it runs, where that is sure; else empty."""
        return ""

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """By the step's own `undo:` command; without one it cannot be undone."""
        if before.state.get("done") is True:
            return ()
        return Irreversible(
            why="no undo command was given: nobody can derive the opposite of a command",
            missing=True,
        )

    @abstractmethod
    def text(self, before: Observation) -> str:
        """The POSIX-sh script to run. Pure."""

    def _proof(self) -> str:
        parts = [f"{self.creates} exists"] if self.creates is not None else []
        if self.done_when is not None:
            parts.append(f"`{self.done_when}` holds")
        return " and ".join(parts)


class Shell(CommandKind):
    """Run a command of the POSIX shell, at most once.

    On a host it outlives the connection: losing SSH, or this controller, loses neither the
    command nor its exit status. Its whole output is kept; `outputs:` of the step takes values
    out of it, each of 1 MiB at the most, from up to 16 MiB of text. What is larger fails the
    step: leave it in a file and print its name.

    Tell it how to see that the work is done (`creates` or `done_when`), and a second run does
    nothing. Give the step an `undo:` command, and a `probe` to prove that the undo worked: the
    opposite of a command cannot be derived.

    A failing command inside a longer text does not stop it unless you write `set -e` first.
    """

    name: ClassVar[str] = "shell"
    output_names: ClassVar[dict[str, str]] = {
        "probe": "what `probe` printed afterwards, where there is one"
    }
    example: ClassVar[str] = """\
- id: stop-writers
  kind: shell
  hosts: west and app
  with:
    command: touch /var/lib/shop/read-only
    creates: /var/lib/shop/read-only
  undo: rm -f /var/lib/shop/read-only
"""

    command: Command = Field(description="The command, or several lines of them.")

    def text(self, before: Observation) -> str:
        return self.command

    def program(self) -> str:
        return first_word(self.command)

    def preview(self) -> tuple[str, ...]:
        lines = [f"$ {line}" for line in self.command.rstrip("\n").splitlines()]
        if self.creates is not None or self.done_when is not None:
            lines.append(f"not where {self._proof()}")
        return tuple(lines)
