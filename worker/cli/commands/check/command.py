"""`chartpost check`: is everything set up as it must be?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import click

from tasks.folders.free_space import disk_folders
from tasks.folders.inbox_counts import read_inbox_counts
from tasks.folders.layout import Folders
from tasks.ledger import keys
from tasks.sources.writers import Writers
from worker.cli.commands.check.accounts import check_accounts, skip_accounts
from worker.cli.commands.check.dead import check_dead_letters
from worker.cli.commands.check.disk import check_disk
from worker.cli.commands.check.doors import check_doors
from worker.cli.commands.check.folders import check_file_roots, check_folders
from worker.cli.commands.check.inbox import check_inbox, check_writers
from worker.cli.commands.check.keys import check_keys
from worker.cli.commands.check.ledger import check_ledger
from worker.cli.commands.check.machines import check_machines
from worker.cli.commands.check.name import COLUMNS as COLUMNS_OF_NAMES
from worker.cli.commands.check.name import check_name
from worker.cli.commands.check.page import check_page
from worker.cli.commands.check.redis import check_identity, check_redis
from worker.cli.commands.check.result import CheckResult, failed
from worker.cli.commands.check.settings import check_settings
from worker.cli.commands.check.staging import check_staging
from worker.cli.commands.check.streams import check_streams
from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.params import TextOrFile
from worker.cli.startup import open_runtime
from worker.inbox.build import inbox_claims
from worker.inbox.scan import Candidate

_COLUMNS = ("check", "account", "ok", "message")


@click.command
@click.option("--deep", is_flag=True, help="Compare the whole ledger with the folders too, and repair what is safe.")
@click.option("--name", "file", type=TextOrFile(), help="Only say how inbox.name_patterns reads this file's name.")
@output_option
@pass_context
def check(context: Context, deep: bool, file: str | None, output: Output) -> None:
    """Check that everything is set up as it must be.

    That is settings, folders, the page, staging, Redis, the clock, machines, messages that became no job, and each
    account's credentials. Also lists the files in the inbox that are not accepted.
    """
    if file is not None:
        readings = check_name(file, context.settings.inbox.name_patterns)
        output.rows(COLUMNS_OF_NAMES, readings)
        raise SystemExit(0 if any(reading["ok"] for reading in readings) else 1)
    counted = Counter[bool]()

    def rows() -> Iterator[dict[str, object]]:
        for result in _results(context, deep=deep):
            counted[result.ok] += 1
            yield result.fields()

    if output.at_terminal:
        print_results(list(rows()))
    else:
        output.rows(_COLUMNS, rows())
    output.summary(f"{counted[True]} yes, {counted[False]} no")
    if counted[False]:
        raise SystemExit(1)


def print_results(rows: Sequence[Mapping[str, object]]) -> None:
    """At a terminal: in columns that fit it, with colours."""
    from worker.cli.table import Column, print_table  # late: it imports rich, which a pipe does not need

    columns = [
        Column("check", lambda row: row["check"]),
        Column("account", lambda row: row["account"], flexible=True, least=20, most=24, dispensable=1),
        Column("ok", lambda row: row["ok"], style=lambda row: "green" if row["ok"] else "bold red"),
        Column("message", lambda row: row["message"], flexible=True, least=30, most=200, wraps=True),
    ]
    print_table(columns, rows)


def _results(context: Context, *, deep: bool) -> Iterator[CheckResult]:
    settings = context.settings
    folders = Folders(settings.data_dir)
    mark = None
    is_tried_already: Callable[[Candidate], bool] = _unknown
    lasting: Collection[tuple[str, str]] = ()
    yield from check_settings(settings)
    yield from check_folders(folders, settings.data_dir)
    yield from check_disk(
        disk_folders(settings.data_dir).values(), (account.max_bytes for account in settings.accounts.values())
    )
    yield from check_file_roots(settings)
    yield from check_page(settings)
    try:
        runtime = open_runtime(context, examine=False)
    except click.ClickException as error:  # there is no address to ask
        yield failed("redis", error.message)
    else:
        yield from check_staging(runtime.staging, settings.s3.stage_inbox)
        refusals = list(check_identity(runtime.ledger.identity))
        # Under another secret_key the log would have other marks.
        mark = None if refusals else runtime.seal.lookup
        redis_results = [*check_redis(runtime.redis, ours=not refusals), *refusals]
        yield from redis_results
        if all(result.ok for result in redis_results if result.check == "redis"):
            groups = {name: account.provider.limit_group for name, account in runtime.accounts.items()}
            yield from check_keys(runtime.redis, groups, settings.producers)
            yield from check_streams(runtime.redis, [keys.INTAKE, *map(keys.producer_stream, settings.producers)])
            yield from check_doors(runtime.redis, settings.producers)
            yield from check_machines(runtime.redis, runtime.workers, staging=runtime.staging is not None)
            yield check_dead_letters(runtime.dead_letters)
            is_tried_already = inbox_claims(runtime).is_tried_already
            _, lasting = read_inbox_counts(runtime.redis)
            yield from check_accounts(runtime.accounts, runtime.account_statuses)
            if deep:
                yield from check_ledger(runtime.ledger, folders, runtime.claims, runtime.machine.name())
        else:
            yield from skip_accounts(runtime.accounts)
    if settings.inbox.enabled:
        writers = Writers(folders.processing)
        yield from check_writers(folders.inbox, settings.accounts, writers)
        yield from check_inbox(
            folders.inbox, settings.accounts, settings.inbox, writers, mark, is_tried_already, lasting
        )


def _unknown(_: Candidate) -> bool:
    """Without Redis nobody can say whether an earlier try of a document is on its way."""
    return False
