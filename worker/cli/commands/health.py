"""`chartpost health`: for containers, which run it every few seconds. So it asks little of Redis and imports little.

It fails for what stops every document: no Redis, one that takes no writes, no worker, a feeder that fails, a disk
that takes no writes. It also fails while a feeder skips an account.
"""

from __future__ import annotations

from pathlib import Path

import click
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.dispatch.feeder_report import fails, feeder_troubles
from tasks.dispatch.workers import Workers
from tasks.folders.free_space import DISK_FULL, try_write
from tasks.ledger import keys
from worker.cli.context import Context, pass_context

_TIMEOUT_SECONDS = 3.0


@click.command
@pass_context
def health(context: Context) -> None:
    """Exit with 0 only if documents can move.

    That is if Redis answers and takes writes, a worker consumes, and the disk takes writes.
    """
    _require_disk(context.settings.data_dir)
    client = redis.Redis.from_url(
        context.redis_url,
        decode_responses=True,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the container's own interval is the retry
    )
    client.set(keys.WRITE_TEST, "1", px=1)
    slots = Workers(client).alive()
    if not slots:
        raise click.ClickException("Redis answers, but no worker is consuming: start `chartpost run`.")
    _require_feeders(client)
    click.echo(f"ok: {len(slots)} worker{'s' if len(slots) > 1 else ''}, {sum(slots.values())} slots")


def _require_feeders(client: redis.Redis) -> None:
    """Raises ClickException while a feeder's rounds fail, or while one skips an account."""
    for worker, trouble in feeder_troubles(client).items():
        if trouble.failing:
            raise click.ClickException(f"The feeder of worker {worker} {fails(trouble.failing)}")
        for lane, why in trouble.skipped.items():
            raise click.ClickException(f"No document of {lane} is sent: {why}. `chartpost check` says what to do.")


def _require_disk(data_dir: Path) -> None:
    """Raises ClickException if documents can be neither taken in nor closed, since the disk takes nothing."""
    folder = data_dir / "processing"
    try:
        try_write(folder)
    except OSError as error:
        # Not for want of rights or of the folder: health may run as another user, and a worker need not have folders.
        if error.errno in DISK_FULL:
            raise click.ClickException(
                f"{folder}: nothing can be written there ({error.strerror}): make room on its disk."
            ) from error
