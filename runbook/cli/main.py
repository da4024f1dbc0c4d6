"""The ``runbook`` command: finds its subcommands by name and imports only the one it runs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("Begin", "Write a commented starter runbook."),
    "validate": ("Begin", "Check a runbook: every error at once, each with its place."),
    "plan": ("Begin", "Show what would be done, offline: order, commands, DNS, window fit."),
    "kinds": ("Begin", "List the kinds of step there are."),
    "explain": ("Begin", "Explain one kind: its keys, outputs, an example."),
    "schema": ("Begin", "Print the JSON Schema of runbooks, for editors."),
    "rehearse": ("Run", "Rehearse without touching production, at one of five levels."),
    "run": ("Run", "Run a runbook."),
    "amend": ("Run", "Change what a run has not begun yet, by an edited runbook."),
    "resume": ("Run", "Go on with a run that stopped, wherever it stopped."),
    "rollback": ("Run", "Take everything back, or back to a step."),
    "approve": ("Answer", "Say yes to a question of a run, from any terminal."),
    "reject": ("Answer", "Say no to a question of a run."),
    "retry": ("Answer", "Try a failed step again."),
    "skip": ("Answer", "Leave a step out, with a reason."),
    "resolve": ("Answer", "Tell a run what became of a step in doubt."),
    "pause": ("Answer", "Stop a run before its next step."),
    "continue": ("Answer", "Let a paused run go on."),
    "status": ("Look", "Show where a run stands."),
    "log": ("Look", "Show what happened, event by event; a step's whole output."),
    "rehearsals": ("Look", "List rehearsals: when, which plan, by whom, what came of it."),
    "report": ("Look", "Write the report of a run: Markdown, HTML or JSON."),
    "demo": ("Learn", "Watch a whole migration in an embedded world; nothing else is touched."),
}
"""Name → (panel, one line of help). A test holds it against the files of this folder."""


class LazyGroup(TyperGroup):
    """Lists commands from the table; imports a command's module when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        panel, line = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=line, rich_help_panel=panel)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from runbook.views.help import show_help

        records = (param.get_help_record(ctx) for param in self.get_params(ctx))
        show_help(
            f"Usage: {ctx.command_path} [OPTIONS] COMMAND [ARGS]...", self.help or "",
            [record for record in records if record is not None], COMMANDS,
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            if close:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest


def load(name: str) -> Any:
    """The real command of a name, with its options."""
    module = importlib.import_module(f"runbook.cli.{name.replace('continue', 'continue_')}")
    panel, line = COMMANDS[name]
    one = typer.Typer(add_completion=False)
    one.command(name, help=line, rich_help_panel=panel)(module.command)
    return typer.main.get_command(one)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Rehearse a datacenter move until it is boring, run it inside its window, be able to "
    "go back at any second, and prove afterwards what happened.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from runbook import __version__

        typer.echo(f"runbook {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Options of the whole command."""


def run() -> None:
    """Entry point: run the command, print errors meant for people, exit with their code."""
    from runbook.cli.output import standing
    from runbook.errors import InvalidInput, RunbookError

    with standing():
        try:
            app()
        except InvalidInput as fault:
            typer.echo(fault.render(), err=True)
            typer.echo(f"\n{fault.message}; {fault.state}.", err=True)
            sys.exit(fault.exit_code)
        except RunbookError as fault:
            typer.echo(f"error: {fault.message}", err=True)
            if fault.hint:
                typer.echo(f"  hint: {fault.hint}", err=True)
            sys.exit(fault.exit_code)
