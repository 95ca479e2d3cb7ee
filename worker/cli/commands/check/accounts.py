"""`chartpost check`: each account's credentials, tried at its provider."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import redis

from tasks.accounts.account import Account, Accounts
from tasks.accounts.status import AccountStatuses
from tasks.model.errors import StepError
from worker.cli.commands.check.result import CheckResult, failed, passed

_AT_ONCE = 8  # a provider that does not answer costs its whole timeout


def check_accounts(accounts: Accounts, statuses: AccountStatuses) -> Iterator[CheckResult]:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        yield from threads.map(lambda name: _check_account(accounts[name], statuses), accounts)


def skip_accounts(accounts: Accounts) -> Iterator[CheckResult]:
    """Without Redis no call can be made: it holds the providers' rate limits."""
    for name in accounts:
        yield failed("account", "Not asked, since Redis does not answer.", name)


def _check_account(account: Account, statuses: AccountStatuses) -> CheckResult:
    try:
        account.provider.probe()
        status = statuses.health(account.name).status
    except (StepError, redis.RedisError) as error:
        return failed("account", str(error), account.name)
    message = "The provider answers and accepts the credentials."
    if status in ("parked", "down"):
        message += f" It is still {status} until the next probe, or `chartpost accounts resume {account.name}`."
    return passed("account", message, account.name)
