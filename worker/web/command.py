"""`chartpost web`: the page, until it is stopped."""

from __future__ import annotations

import os

import click

from worker.cli.commands.serve import empty_option, require_page, start_reloader
from worker.cli.context import Context, pass_context
from worker.cli.errors import WrongSettings
from worker.cli.startup import start_service


@click.command
@empty_option
@pass_context
def web(context: Context, empty: bool) -> None:
    """Serve the page for the clinic's staff.

    `chartpost users` says who may use it. web.address and web.port say where it is.
    """
    require_page()
    # Late: they need the extra.
    from worker.web.certificate import CertificateUnusable
    from worker.web.server import PageServer

    runtime = start_service(context, empty=empty)
    page = context.settings.web
    try:
        server = PageServer(runtime)
    except CertificateUnusable as error:
        raise WrongSettings([str(error)]) from error
    except OSError as error:
        raise click.ClickException(
            f"The page cannot listen at {page.address}:{page.port}: {os.strerror(error.errno or 0)}."
        ) from error
    reloader = start_reloader(context, runtime, "web")
    server.run()
    reloader.restart_if_due()
