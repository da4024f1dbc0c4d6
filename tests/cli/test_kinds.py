"""``runbook kinds`` and ``runbook explain`` as a person calls them."""

from __future__ import annotations

import json
import subprocess
import sys

from runbook.errors import ExitCode
from runbook.kinds import names


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runbook", *words], capture_output=True, text=True, check=False
    )


def test_kinds_are_listed() -> None:
    done = call("kinds")
    assert done.returncode == 0 and not done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == list(names()[:3])
    listed = json.loads(call("kinds", "--json").stdout)
    assert [row["kind"] for row in listed] == list(names())


def test_one_kind_is_explained() -> None:
    done = call("explain", "files.sync")
    assert done.returncode == 0 and "kind: files.sync" in done.stdout
    told = json.loads(call("explain", "files.sync", "--json").stdout)
    assert told["kind"] == "files.sync" and told["keys"][0]["required"] is True


def test_an_unknown_kind_gets_a_hint() -> None:
    done = call("explain", "file.sink")
    assert done.returncode == ExitCode.NOT_FOUND
    assert "there is no kind 'file.sink'" in done.stderr
    assert "did you mean `files.sync`" in done.stderr
