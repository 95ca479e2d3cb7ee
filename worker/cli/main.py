"""`chartpost`: one group of commands, each imported when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import click

from worker.cli.context import Context
from worker.cli.errors import foreseen

COMMANDS = {
    "demo": "worker.demo.command:demo",
    "run": "worker.cli.commands.serve:run",
    "worker": "worker.cli.commands.serve:worker",
    "watch": "worker.cli.commands.serve:watch",
    "intake": "worker.cli.commands.serve:intake",
    "send": "worker.cli.commands.send:send",
    "relabel": "worker.cli.commands.relabel:relabel",
    "jobs": "worker.cli.commands.jobs:jobs",
    "show": "worker.cli.commands.jobs:show",
    "retry": "worker.cli.commands.retry:retry",
    "cancel": "worker.cli.commands.cancel:cancel",
    "resolve": "worker.cli.commands.resolve:resolve",
    "accounts": "worker.cli.commands.accounts:accounts",
    "records": "worker.cli.commands.records:records",
    "check": "worker.cli.commands.check.command:check",
    "health": "worker.cli.commands.health:health",
}


class Commands(click.Group):
    """Imports a command when it is asked for, and says foreseen errors in a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, place in COMMANDS.items() if importlib.util.find_spec(place.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # as click declares it
        try:
            return super().invoke(ctx)
        except Exception as error:
            said = foreseen(error)
            if said is None:
                raise
            raise said from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), help="The settings file; else $CHARTPOST_CONFIG.")
@click.version_option(package_name="chartpost")
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Carry clinical documents into practice systems, and prove that they arrived."""
    ctx.obj = Context(config)


def main() -> None:
    """The entry point of `chartpost` and of `python -m worker`."""
    cli.main(prog_name="chartpost")
