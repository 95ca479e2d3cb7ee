"""`chartpost web`: the page, until it is stopped."""

from __future__ import annotations

import click

from worker.cli.commands.serve import empty_option, start_reloader
from worker.cli.context import Context, pass_context
from worker.cli.startup import start_service


@click.command
@empty_option
@pass_context
def web(context: Context, empty: bool) -> None:
    """Serve the page for the clinic's staff.

    `chartpost users` says who may use it. web.address and web.port say where it is.
    """
    try:
        from worker.web.server import PageServer  # late: it needs the extra, and only this command does
    except ModuleNotFoundError as error:
        raise click.ClickException("The page needs the extra: pip install 'chartpost[web]'.") from error
    runtime = start_service(context, empty=empty)
    page = context.settings.web
    try:
        server = PageServer(runtime)
    except OSError as error:
        raise click.ClickException(
            f"The page cannot listen at {page.address}:{page.port}: {error.strerror}."
        ) from error
    reloader = start_reloader(context, runtime, "web")
    server.run()
    reloader.restart_if_due()
