"""`chartpost check`: settings that can be used. Those that cannot have ended the command before."""

from __future__ import annotations

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
