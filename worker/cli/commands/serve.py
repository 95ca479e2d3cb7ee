"""The commands that run until they are stopped: everything on one machine, or one part of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module

import click

from tasks.runtime import Runtime
from worker.celery.build import backlog_helper
from worker.cli.context import Context, pass_context
from worker.cli.extra import page_extra
from worker.cli.startup import require_accounts, start_logs, start_service
from worker.inbox.build import inbox_service
from worker.reload.reloader import Reloader
from worker.reload.requests import ReloadRequests
from worker.reload.stop_deadline import SERVICE_SECONDS, StopDeadline
from worker.stream.build import stream_readers
from worker.supervisor.run import Supervisor

empty_option = click.option("--empty", is_flag=True, help="Start although the settings name no account.")


@click.command
@empty_option
@pass_context
def run(context: Context, empty: bool) -> None:
    """Run everything on this machine.

    That is the inbox watcher, the stream reader and a worker; and an embedded Valkey, unless redis.url is set.
    SIGTERM and Ctrl-C stop them in order.
    """
    require_accounts(context.settings, empty=empty)
    if context.settings.web.enabled:
        require_page()  # before anything starts: the page would only ever end and be started again
    start_logs(context.settings)
    part = Supervisor(context.settings).run()
    if part:  # this process is a child of the supervisor's now
        click.get_current_context().find_root().command.main(list(part), prog_name="chartpost")


# Celery has options of its own, --help included: none of them must stop here.
@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_context
def worker(context: Context, arguments: tuple[str, ...]) -> None:
    """Run a Celery worker with chartpost's options.

    The same as `celery -A worker worker …`; all arguments but --empty go to Celery.
    """
    if not {"--help", "-h"} & set(arguments):
        require_accounts(context.settings, empty="--empty" in arguments)
        context.require_server()  # before Celery meets the same fault, and prints a traceback
    # Late: only workers need it. Of Celery's command line this command alone: the others bring a shell, Flower and
    # 250 modules with them.
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker as celery_worker

    from worker.celery.worker_app import app

    for_celery = [argument for argument in arguments if argument != "--empty"]
    given = CLIContext(app=app, no_color=False, workdir=None)
    celery_worker.main(for_celery, prog_name="chartpost worker", obj=given)


@click.command
@click.option("--once", is_flag=True, help="Take in what is complete now, then exit.")
@empty_option
@pass_context
def watch(context: Context, once: bool, empty: bool) -> None:
    """Watch the inbox and take in new documents."""
    runtime = start_service(context, empty=empty)
    service = inbox_service(runtime)
    if once:
        stop_on_signals(runtime.stopping.set)
        service.run(once=True)
        return
    reloader = start_reloader(context, runtime, "watch")
    service.run()
    reloader.restart_if_due()


@click.command
@empty_option
@pass_context
def intake(context: Context, empty: bool) -> None:
    """Read documents from chartpost:intake and each producer's stream.

    Also opens Celery calls while many of them wait, which is work that workers are then spared.
    """
    runtime = start_service(context, empty=empty)
    reloader = start_reloader(context, runtime, "intake")
    backlog_helper(runtime).start()
    stream_readers(runtime).run()
    reloader.restart_if_due()


def require_page() -> None:
    """Raises NotInstalled."""
    with page_extra():
        # By its name: the page's room stands above this one, and needs packages that only the page does.
        import_module("worker.web.server")


def start_reloader(context: Context, runtime: Runtime, part: str) -> Reloader:
    """Reload when asked; end for good with SIGTERM and Ctrl-C. Both set `runtime.stopping`."""
    reloader = Reloader(context.settings, part, ReloadRequests(runtime.redis), runtime.stopping.set)

    def end_for_good() -> None:
        reloader.end_for_good()
        runtime.stopping.set()

    stop_on_signals(end_for_good)
    reloader.start()
    return reloader


def stop_on_signals(stop: Callable[[], None]) -> None:
    """A deadline begins with the first of them, and a second one hastens it."""
    deadline = StopDeadline(SERVICE_SECONDS)

    def end(*_: object) -> None:
        stop()
        deadline.begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
