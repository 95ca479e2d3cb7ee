"""The commands that run on: everything at once, or one part of it."""

from __future__ import annotations

import signal

import click

from worker.cli.context import Front, pass_front


@click.command
@pass_front
def run(front: Front) -> None:
    """Run everything on this machine: server, worker, watcher and stream intake.

    An embedded Valkey is started unless redis.url is set. SIGTERM and Ctrl-C stop everything in order.
    """
    front.start_logs()
    from worker.supervisor.run import Run

    Run(front.settings).run()


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run a Celery worker with our options.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_front
def worker(front: Front, arguments: tuple[str, ...]) -> None:
    """Run a Celery worker, as `celery -A worker worker …` does; all arguments go to Celery."""
    if not {"--help", "-h"} & set(arguments):
        front.require_server()  # what is wrong is better said here than from within Celery
    from celery.bin.celery import celery

    celery.main(["-A", "worker", "worker", *arguments], prog_name="chartpost")


@click.command
@click.option("--once", is_flag=True, help="Take what has settled, then exit.")
@pass_front
def watch(front: Front, once: bool) -> None:
    """Watch the inbox and take in what settles there."""
    from worker.inbox.service import Watching

    Watching(front.lasting_process).run(once=once)


@click.command
@pass_front
def intake(front: Front) -> None:
    """Read documents from the Redis stream chartpost:intake, and help workers where Celery calls pile up."""
    process = front.lasting_process
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stopping.set())
    from worker.celery.backlog import help_workers
    from worker.stream.reader import Intake

    help_workers(process)
    Intake(process).run()
