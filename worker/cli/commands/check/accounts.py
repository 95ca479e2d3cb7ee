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
    """Each account's credentials, and this machine's clock against its provider's.

    Clocks that agree have one result together: with twenty accounts nobody reads twenty of them.
    """
    agreeing = set[str]()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for result in threads.map(lambda name: _check_account(accounts[name], statuses), accounts):
            yield result
            clock = accounts[result.account or ""].clock
            # By the date of the answer that the credentials got; None if there was none.
            if clock.ahead_seconds is None:
                continue
            server = clock.server.replace("The ", "the ", 1)  # a FHIR server has no other name
            if abs(clock.ahead_seconds) <= _CLOCK_SECONDS:
                agreeing.add(server)
                continue
            difference = length(clock.ahead_seconds)
            message = f"This machine's clock and {server}'s differ by {difference}: set this one by NTP."
            yield failed("clock", message, result.account)
    if agreeing:
        names = " and ".join(f"{server}'s" for server in sorted(agreeing))
        yield passed("clock", f"It agrees with {names}.")


def skip_accounts(accounts: Accounts) -> Iterator[CheckResult]:
    """Without the installation's own Redis no call can be made: it holds the providers' rate limits."""
    for name in accounts:
        yield failed("account", "Not asked, since Redis cannot be used.", name)


def _check_account(account: Account, statuses: AccountStatuses) -> CheckResult:
    try:
        account.provider.probe()
        health = statuses.health(account.name)
    except (StepError, redis.RedisError) as error:
        message = account.reason(error) if isinstance(error, StepError) else str(error)
        return failed("account", message, account.name)
    except Exception as error:  # noqa: BLE001 (a fault of ours must not hide what the other checks say)
        return failed("account", f"chartpost itself failed ({type(error).__name__}): please report that.", account.name)
    message = "The provider answers and accepts the credentials."
    if health.status == "ok" and health.reason:  # it works, and something of it waits all the same
        return failed("account", health.reason, account.name)
    if health.status in ("parked", "down"):
        message += f" It is still {health.status} until the next probe, or `chartpost accounts resume {account.name}`."
    return passed("account", message, account.name)
