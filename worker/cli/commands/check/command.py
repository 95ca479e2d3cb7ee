"""`chartpost check`: whether everything is set up as it must be, in lines of check, account, ok and message."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from worker.cli.commands.check.result import Finding
from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, print_rows

if TYPE_CHECKING:
    from config.settings import Settings
    from tasks.runtime import Runtime

_COLUMNS = ("check", "account", "ok", "message")
_AT_ONCE = 8


@click.command
@click.option("--deep", is_flag=True, help="Look through the whole ledger too, and mend what belongs to nothing.")
@json_option
@pass_context
def check(context: Context, deep: bool, as_json: bool) -> None:
    """Check settings, folders, Redis, the clock, each account's credentials, and what the inbox does not accept."""
    settings = context.settings
    failed = []

    def rows() -> Iterator[dict[str, object]]:
        for finding in _findings(context, settings, deep=deep):
            if not finding.ok:
                failed.append(finding)
            yield {column: getattr(finding, column) for column in _COLUMNS}

    print_rows(_COLUMNS, rows(), as_json=as_json)
    if failed:
        raise SystemExit(1)


def _findings(context: Context, settings: Settings, *, deep: bool) -> Iterator[Finding]:
    from worker.cli.commands.check.folders import of_folders, of_inbox
    from worker.cli.commands.check.ledger import of_ledger
    from worker.cli.commands.check.redis import of_redis

    yield from _of_settings(settings)
    yield from of_folders(settings)
    runtime = _runtime(context)
    if isinstance(runtime, Finding):
        yield runtime
    else:
        redis_well = True
        for finding in of_redis(runtime.redis):
            redis_well = redis_well and (finding.check != "redis" or finding.ok)
            yield finding
        yield from _of_accounts(runtime, redis_well=redis_well)
        if deep and redis_well:
            yield from of_ledger(runtime)
    if settings.inbox.enabled:
        yield from of_inbox(settings, None if isinstance(runtime, Finding) else runtime.seal.lookup)


def _of_settings(settings: Settings) -> Iterator[Finding]:
    count = len(settings.accounts)
    if count:
        yield Finding("settings", ok=True, message=f"They can be used; {count} account{'s' if count > 1 else ''}.")
    else:
        yield Finding("settings", ok=False, message="They name no account: add an [accounts.<name>] table.")
    for warning in settings.warnings:
        yield Finding("settings", ok=True, message=warning)


def _runtime(context: Context) -> Runtime | Finding:
    try:
        return context.runtime
    except click.ClickException as error:
        return Finding("redis", ok=False, message=error.message)


def _of_accounts(runtime: Runtime, *, redis_well: bool) -> Iterator[Finding]:
    if not redis_well:
        for name in runtime.accounts:
            yield Finding("account", ok=False, account=name, message="Not asked, since Redis does not answer.")
        return
    with ThreadPoolExecutor(_AT_ONCE) as asking:
        yield from asking.map(lambda name: _of_account(runtime, name), runtime.accounts)


def _of_account(runtime: Runtime, name: str) -> Finding:
    """Ask the provider by a call that needs no document."""
    import redis

    from tasks.model.errors import StageError

    account = runtime.accounts[name]
    try:
        account.provider.probe()
        health = runtime.account_statuses.health(name)
    except (StageError, redis.RedisError) as error:
        return Finding("account", ok=False, account=name, message=str(error))
    message = "The provider answers and accepts the credentials."
    if health.status in ("parked", "down"):
        message += f" It is still {health.status}, until the next probe or `chartpost accounts resume {name}`."
    return Finding("account", ok=True, account=name, message=message)
