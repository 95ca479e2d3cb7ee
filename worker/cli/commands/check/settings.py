"""`chartpost check`: settings that can be used. Those that cannot have ended the command before."""

from __future__ import annotations

import os
from collections.abc import Iterator

from config.settings import Settings
from worker.cli.commands.check.result import CheckResult, failed, passed


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    count = len(settings.accounts)
    if count:
        yield passed("settings", f"They can be used; {count} account{'s' if count > 1 else ''}. {settings.origin}")
    else:
        yield failed("settings", f"They name no account: add an [accounts.<name>] table. {settings.origin}")
    for warning in settings.warnings:
        yield passed("settings", warning)
    yield from _check_proxy(settings)


# Upper and lower case, as programs that honour them do.
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def _check_proxy(settings: Settings) -> Iterator[CheckResult]:
    """The environment's proxy, which is not used. Its address may hold a password, so it is not shown."""
    named = [name for name in _PROXIES if os.environ.get(name)]
    if not named or settings.proxy.get_secret_value():
        return
    without = [name for name, account in settings.accounts.items() if account.proxy is None]
    if without or not settings.accounts:
        message = f"The environment names a proxy ({named[0]}), and chartpost uses none of the environment's: "
        yield passed("proxy", message + "set `proxy` if the providers can only be reached through it.")
