"""Values of secrets: found when first needed, kept in memory, told to the redactor at once."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from runbook.errors import Errored, NotFound
from runbook.model.secrets import MARK, Redactor, SecretRef

_COMMAND_PATIENCE = 60.0


class SecretStore:
    """Resolves secrets by reference. Thread-safe.

    ``directory`` is where relative paths of ``file`` and ``command`` sources start.
    ``environ`` stands for the process's environment. With ``values`` (a sandbox) no source is
    ever asked: a secret is what the mapping says, or an error.

    A value is a source's text without its final line ends. Errors name the secret and its
    source, never what was read.
    """

    def __init__(
        self, refs: Iterable[SecretRef], *, directory: Path, redactor: Redactor,
        values: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None,
    ) -> None:
        self._refs = {ref.name: ref for ref in refs}
        self._directory = directory
        self._redactor = redactor
        self._given = values
        self._environ = os.environ if environ is None else environ
        self._known: dict[str, str] = {}
        self._lock = threading.RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared secret."""
        return tuple(self._refs)

    def value(self, name: str) -> str:
        """The secret's value. Raises NotFound (not declared) or Errored (cannot be read)."""
        with self._lock:
            known = self._known.get(name)
            if known is None:
                known = self._find(name)
                self._redactor.learn(name, known)
                self._known[name] = known
            return known

    def resolve_marks(self, text: str) -> str:
        """``text`` with every mark replaced by its value. Raises as :meth:`value`."""
        return MARK.sub(lambda found: self.value(found.group(1)), text)

    def prove(self, names: Iterable[str]) -> None:
        """Read every named secret now. Raises one Errored that lists all that cannot be."""
        faults: list[str] = []
        for name in names:
            try:
                self.value(name)
            except (Errored, NotFound) as fault:
                faults.append(fault.message)
        if faults:
            raise Errored(
                "; ".join(faults), hint="provide the secrets; nothing is begun without them"
            )

    def _find(self, name: str) -> str:
        ref = self._refs.get(name)
        if ref is None and (self._given is None or name not in self._given):
            raise NotFound(
                f"no secret {name!r} is declared", hint="declare it under `secrets:` of the runbook"
            )
        if self._given is not None:
            if name not in self._given:
                raise Errored(f"the sandbox has no value for secret {name!r}")
            return self._given[name]
        assert ref is not None
        found = {"env": self._from_env, "file": self._from_file, "command": self._from_command}[
            ref.source
        ](ref)
        if not found:
            raise Errored(f"secret {name!r} is empty ({_source(ref)})")
        return found

    def _from_env(self, ref: SecretRef) -> str:
        variable = _words(ref)[0]
        if variable not in self._environ:
            raise Errored(
                f"secret {ref.name!r}: the environment variable {variable} is not set",
                hint=f"export {variable} where the controller is started",
            )
        return self._environ[variable].rstrip("\r\n")

    def _from_file(self, ref: SecretRef) -> str:
        path = self._directory / Path(_words(ref)[0]).expanduser()
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as fault:
            raise Errored(
                f"secret {ref.name!r}: {path} cannot be read ({fault.strerror})"
            ) from fault
        except UnicodeDecodeError:
            # Not chained: the decoder's error carries the bytes it met.
            raise Errored(f"secret {ref.name!r}: {path} is not UTF-8 text") from None

    def _from_command(self, ref: SecretRef) -> str:
        words = _words(ref)
        try:
            done = subprocess.run(
                words, cwd=self._directory, env=dict(self._environ), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_COMMAND_PATIENCE,
                check=False,
            )
        except OSError as fault:
            raise Errored(
                f"secret {ref.name!r}: {words[0]} cannot be run ({fault.strerror})"
            ) from fault
        except subprocess.TimeoutExpired:
            # Not chained: the exception carries the output so far.
            raise Errored(
                f"secret {ref.name!r}: {words[0]} did not end within {_COMMAND_PATIENCE:.0f} s",
                hint="it may be waiting for a passphrase; unlock it first",
            ) from None
        if done.returncode != 0:
            raise Errored(
                f"secret {ref.name!r}: {words[0]} exited with {done.returncode}",
                hint=f"run it by hand to see why: {' '.join(words)}",
            )
        try:
            return done.stdout.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise Errored(f"secret {ref.name!r}: {words[0]} did not print UTF-8 text") from None


def _words(ref: SecretRef) -> list[str]:
    return [ref.argument] if isinstance(ref.argument, str) else list(ref.argument)


def _source(ref: SecretRef) -> str:
    return f"from {ref.source} {_words(ref)[0]}"
