"""`chartpost health`: for containers, which run it every few seconds. So it asks little of Redis and imports little."""

from __future__ import annotations

import click
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.dispatch.workers import Workers
from worker.cli.context import Context, pass_context

_TIMEOUT_SECONDS = 3.0


@click.command
@pass_context
def health(context: Context) -> None:
    """Exit with 0 only if Redis answers and a worker consumes."""
    client = redis.Redis.from_url(
        context.redis_url,
        decode_responses=True,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the container's own interval is the retry
    )
    slots = Workers(client).alive()
    if not slots:
        raise click.ClickException("Redis answers, but no worker is consuming: start `chartpost run`.")
    click.echo(f"ok: {len(slots)} worker{'s' if len(slots) > 1 else ''}, {sum(slots.values())} slots")
