"""The commands that run on: everything at once, or one part of it."""

from __future__ import annotations

import signal

import click

from worker.cli.context import Context, pass_context


@click.command
@pass_context
def run(context: Context) -> None:
    """Run everything on this machine: server, worker, watcher and stream intake.

    An embedded Valkey is started unless redis.url is set. SIGTERM and Ctrl-C stop everything in order.
    """
    context.start_logs()
    from worker.supervisor.run import Run

    Run(context.settings).run()


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run a Celery worker with our options.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_context
def worker(context: Context, arguments: tuple[str, ...]) -> None:
    """Run a Celery worker, as `celery -A worker worker …` does; all arguments go to Celery."""
    if not {"--help", "-h"} & set(arguments):
        context.require_server()  # what is wrong is better said here than from within Celery
    from celery.bin.celery import celery

    celery.main(["-A", "worker", "worker", *arguments], prog_name="chartpost")


@click.command
@click.option("--once", is_flag=True, help="Take what has settled, then exit.")
@pass_context
def watch(context: Context, once: bool) -> None:
    """Watch the inbox and take in what settles there."""
    from worker.inbox.build import inbox_service

    inbox_service(context.lasting_runtime).run(once=once)


@click.command
@pass_context
def intake(context: Context) -> None:
    """Read documents from the Redis stream chartpost:intake, and help workers where Celery calls pile up."""
    runtime = context.lasting_runtime
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.stopping.set())
    from worker.celery.backlog import help_workers
    from worker.stream.build import stream_reader

    help_workers(runtime)
    stream_reader(runtime).run()
