"""`chartpost check`: each account's credentials, tried at its provider, whose clock is compared with ours."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import redis

from tasks.accounts.account import Account, Accounts
from tasks.accounts.status import AccountStatuses
from tasks.http.provider_clock import length
from tasks.model.errors import StepError
from worker.cli.commands.check.result import CheckResult, failed, passed

# Proofs of keys live for some seconds, tokens and forms for minutes; answers may be some seconds on their way.
_CLOCK_SECONDS = 60.0
_AT_ONCE = 8  # a provider that does not answer costs its whole timeout


def check_accounts(accounts: Accounts, statuses: AccountStatuses) -> Iterator[CheckResult]:
    """Each account's credentials, and this machine's clock against its provider's."""
    agreeing: list[str] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for result in threads.map(lambda name: _check_account(accounts[name], statuses), accounts):
            yield result
            account = accounts[result.account or ""]
            if fault := _clock_fault(account):
                yield fault
            elif account.clock.ahead_seconds is not None and account.clock.server not in agreeing:
                agreeing.append(account.clock.server)
    if agreeing:
        theirs = ", ".join(f"{server}'s" for server in agreeing)
        yield passed("clock", f"It agrees with {theirs}.")


def skip_accounts(accounts: Accounts) -> Iterator[CheckResult]:
    """Without Redis no call can be made: it holds the providers' rate limits."""
    for name in accounts:
        yield failed("account", "Not asked, since Redis does not answer.", name)


def _check_account(account: Account, statuses: AccountStatuses) -> CheckResult:
    try:
        account.provider.probe()
        status = statuses.health(account.name).status
    except (StepError, redis.RedisError) as error:
        message = account.reason(error) if isinstance(error, StepError) else str(error)
        return failed("account", message, account.name)
    message = "The provider answers and accepts the credentials."
    if status in ("parked", "down"):
        message += f" It is still {status} until the next probe, or `chartpost accounts resume {account.name}`."
    return passed("account", message, account.name)


def _clock_fault(account: Account) -> CheckResult | None:
    """A clock that differs from the provider's, by the date of the answer that the credentials got."""
    ahead = account.clock.ahead_seconds
    if ahead is None or abs(ahead) <= _CLOCK_SECONDS:
        return None
    message = f"This machine's clock and {account.clock.server}'s differ by {length(ahead)}: set this one by NTP."
    return failed("clock", message, account.name)
