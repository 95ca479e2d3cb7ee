"""`chartpost health`: for containers, so it asks Redis two questions and imports little."""

from __future__ import annotations

import click

from worker.cli.context import Context, pass_context

_SECONDS = 3.0


@click.command
@pass_context
def health(context: Context) -> None:
    """Exit with 0 only if a worker is consuming and Redis answers."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from tasks.dispatch.workers import Workers

    client = redis.Redis.from_url(
        context.redis_url,
        decode_responses=True,
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    alive = Workers(client).alive()
    if not alive:
        raise click.ClickException("Redis answers, but no worker is consuming: start `chartpost run`.")
    click.echo(f"ok: {len(alive)} worker{'s' if len(alive) > 1 else ''}, {sum(alive.values())} slots")
