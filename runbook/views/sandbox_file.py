"""The format of sandbox.yml, told by the classes that read it."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from runbook.sandbox.config import (
    FileConfig,
    HostConfig,
    ProgramConfig,
    SandboxConfig,
    TimeConfig,
    TrafficConfig,
)
from runbook.views.consoles import plain_console
from runbook.views.kinds import Page, keys_of

_SECTIONS: dict[str, type[BaseModel]] = {
    "sandbox.yml": SandboxConfig,
    "A host, under hosts:": HostConfig,
    "A program, under programs: of a host": ProgramConfig,
    "A file, under files: of a host": FileConfig,
    "time:": TimeConfig,
    "traffic:": TrafficConfig,
}

EXAMPLE = """\
zones: {shop.example: shop.example.zone}
secrets: {tsig: "move:hmac-sha256:c2FuZGJveC1vbmx5LW5vdC1hLXNlY3JldA=="}
hosts:
  east-web:
    files:
      site: site
      site/health: {text: "ok\\n"}
    programs:
      - name: web
        command: python3 -m http.server "$PORT" --bind 127.0.0.1 --directory site
        listen: [80]
traffic: {read: [http://shop.example/health]}
"""


def describe_sandbox() -> dict[str, Any]:
    """JSON values: ``sections``, each with ``section text keys``, and an ``example``."""
    return {
        "sections": [
            {"section": name, "text": _text(model), "keys": keys_of(model)}
            for name, model in _SECTIONS.items()
        ],
        "example": EXAMPLE,
    }


def show_sandbox(console: Console | None = None) -> None:
    page = Page(console or plain_console())
    for name, model in _SECTIONS.items():
        page.heading(name)
        page.say(_text(model))
        page.say("")
        page.keys(keys_of(model))
    page.heading("Example")
    for line in EXAMPLE.rstrip("\n").splitlines():
        page.console.print(Text(f"  {line}"))


def _text(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())
