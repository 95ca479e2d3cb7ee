"""`chartpost`: one group of commands. A command's module is imported when the command is called."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """A command in the table: `place` is written `module:function`, `summary` is what `chartpost --help` says."""

    place: str
    summary: str


# The summaries repeat the first sentences of the commands' docstrings, so that `chartpost --help` need not import
# sixteen modules, and Celery and httpx with them. A test compares the two.
COMMANDS = {
    "demo": Entry("worker.demo.command:demo", "Show documents going through, with nothing set up."),
    "run": Entry("worker.cli.commands.serve:run", "Run everything on this machine."),
    "worker": Entry("worker.cli.commands.serve:worker", "Run a Celery worker with chartpost's options."),
    "watch": Entry("worker.cli.commands.serve:watch", "Watch the inbox and take in new documents."),
    "intake": Entry(
        "worker.cli.commands.serve:intake",
        "Read documents from chartpost:intake and each producer's stream.",
    ),
    "send": Entry("worker.cli.commands.send:send", "Take in a copy of one FILE and send it."),
    "relabel": Entry("worker.cli.commands.relabel:relabel", "Replace all security labels of a document."),
    "jobs": Entry("worker.cli.commands.jobs:jobs", "List the jobs that Redis knows, newest first."),
    "show": Entry("worker.cli.commands.show:show", "Show one JOB with its receipt or error."),
    "retry": Entry("worker.cli.commands.retry.command:retry", "Send failed documents again."),
    "cancel": Entry("worker.cli.commands.cancel:cancel", "Stop jobs that have not been sent yet."),
    "dismiss": Entry("worker.cli.commands.dismiss:dismiss", "Record that failures have been dealt with."),
    "notes": Entry("worker.cli.commands.notes:notes", "Print a sheet that explains all failures to a front desk."),
    "resolve": Entry("worker.cli.commands.resolve:resolve", "Record that a person found a JOB's document."),
    "report": Entry("worker.cli.commands.report.command:report", "Report what became of documents."),
    "accounts": Entry("worker.cli.commands.accounts:accounts", "List the accounts, their status and what waits."),
    "records": Entry(
        "worker.cli.commands.records.command:records",
        "List, show, download and change the records in a chart.",
    ),
    "dead": Entry("worker.cli.commands.dead:dead", "Look at messages that no worker takes."),
    "flower": Entry("worker.cli.commands.flower:flower", "Show workers, queues and steps in a browser."),
    "web": Entry("worker.web.command:web", "Serve the page for the clinic's staff."),
    "users": Entry("worker.web.users_command:users", "Say who may use the page, and what each may do."),
    "reload": Entry("worker.cli.commands.reload:reload", "Let all running processes take up changed settings."),
    "check": Entry("worker.cli.commands.check.command:check", "Check that everything is set up as it must be."),
    "health": Entry("worker.cli.commands.health:health", "Exit with 0 only if documents can move."),
}


class Commands(click.Group):
    """Imports each command when it is called, and turns errors that an operator can correct into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click's own would call get_command, and so import every module.
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # as click declares it
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            raise _printable(error) from error.__cause__
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click knows what to do with these
        except Exception as error:
            # Imported only now: it needs the error classes of redis, kombu and cryptography.
            from worker.cli.errors import explain

            explained = explain(error)
            if explained is None:
                raise
            raise _printable(explained) from error


def _printable(error: click.ClickException) -> click.ClickException:
    """Without what moves the cursor: the words may hold a provider's, or the name of a file or folder of others."""
    from worker.cli.printable import printable  # only now, as above

    # click declares it final; a new error would lose its class, and with it the exit code.
    vars(error)["message"] = "\n".join(map(printable, error.message.split("\n")))
    return error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), help="The settings file; without it, $CHARTPOST_CONFIG.")
@click.version_option(package_name="chartpost")
def cli(config: Path | None) -> None:
    """Carry clinical documents into practice systems, and prove that they arrived."""
    if config is not None:
        # In the environment, since child processes and Celery's own loading must find the file too.
        os.environ["CHARTPOST_CONFIG"] = str(config.absolute())


def main() -> None:
    """The entry point of `chartpost` and of `python -m worker`."""
    cli.main(prog_name="chartpost")
