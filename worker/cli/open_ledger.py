"""Sets this process up for a command that asks about jobs or accounts: with the ledger, and nothing that works."""

from __future__ import annotations

from contextlib import suppress

from config.late_log import log_errors_late
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger_runtime import LedgerRuntime
from worker.cli.context import Context


def open_ledger(context: Context) -> LedgerRuntime:
    """It logs nothing but errors.

    Raises SettingsError, ClickException if there is no server's address, and LedgerRefused.
    """
    log_errors_late()
    context.require_server()  # first: a secret key may be made next, and a mere question must leave no file behind
    runtime = LedgerRuntime(context.settings)
    with suppress(*REDIS_ERRORS):  # the command itself says that Redis is away
        runtime.ledger.identity.examine()
    return runtime
