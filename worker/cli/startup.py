"""Sets this process up for a command: its logs, and the runtime with the collaborators that the command uses."""

from __future__ import annotations

from contextlib import suppress

import click
import structlog

from config.errors import SettingsError
from config.logs import configure_logs
from config.settings import Settings
from tasks.ledger.identity import LedgerIdentity
from tasks.ledger.redis import REDIS_ERRORS
from tasks.runtime import Runtime, using
from worker.cli.context import Context


def open_runtime(context: Context, *, examine: bool = True) -> Runtime:
    """For a command that asks or changes something and ends: it logs nothing but errors.

    Raises SettingsError, ClickException if there is no server's address, and with `examine` LedgerRefused.
    """
    configure_logs("console", "error")
    runtime = _build(context)
    if examine:
        with suppress(*REDIS_ERRORS):  # the command itself says that Redis is away
            runtime.ledger.identity.examine()
    return runtime


def start_service(context: Context, *, empty: bool = False) -> Runtime:
    """For a command that runs until it is stopped: it logs as the settings say. Raises as `open_runtime` does.

    Without any account it must be told that this is meant (`empty`), or it raises SettingsError.
    """
    require_accounts(context.settings, empty=empty)
    start_logs(context.settings)
    runtime = _build(context)
    confirm_ledger(runtime.ledger.identity)
    return runtime


def confirm_ledger(identity: LedgerIdentity) -> None:
    """Raises LedgerRefused. While Redis is away nothing is known, and the service examines it once it is back."""
    with suppress(*REDIS_ERRORS):
        identity.confirm()


def require_accounts(settings: Settings, *, empty: bool) -> None:
    """Raises SettingsError without any account: this is most often a command that was started in the wrong folder."""
    if not settings.accounts and not empty:
        raise SettingsError(
            [
                f"They name no account, so nothing could be sent. {settings.origin} Name the right settings file with "
                "--config, or add an [accounts.<name>] table; --empty starts without any."
            ]
        )


def start_logs(settings: Settings) -> None:
    """Log as the settings say; first which file they came from, and their own warnings."""
    configure_logs(settings.log.format, settings.log.level)
    log = structlog.get_logger(__name__)
    file = settings.origin.file
    log.info("settings_read", file=str(file.absolute()) if file else None, accounts=len(settings.accounts))
    for warning in settings.warnings:
        log.warning("settings_warning", warning=warning)
    if not settings.accounts:
        log.warning("settings_warning", warning="No account is named: add an [accounts.<name>] table.")


def _build(context: Context) -> Runtime:
    context.require_server()  # first: Runtime makes a secret key, and a mere question must leave no file behind
    runtime = Runtime(context.settings)
    # Celery's application asks for the current runtime when it is first used. Without this it would load the settings
    # a second time.
    click.get_current_context().with_resource(using(runtime))
    return runtime
