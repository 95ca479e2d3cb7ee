"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

import os
import platform
from uuid import uuid4

import redis

from tasks.runtime import Runtime
from worker.stream.group import ConsumerGroup
from worker.stream.reader import StreamReader
from worker.stream.rejected import RejectedStream

_BLOCK_MS = 250  # SIGTERM waits at most this long for a read to return


def rejected_stream(runtime: Runtime) -> RejectedStream:
    return RejectedStream(
        runtime.redis, runtime.seal, accounts=runtime.settings.accounts, jobs_days=runtime.settings.retention.jobs_days
    )


def stream_reader(runtime: Runtime, *, block_ms: int = _BLOCK_MS) -> StreamReader:
    """A reader under a name of its own."""
    lease_seconds = runtime.settings.worker.lease_seconds
    client = redis.Redis.from_url(  # not `runtime.redis`, which decodes every answer as UTF-8
        runtime.redis_url,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=25,
        client_name="chartpost",
    )
    reader = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
    return StreamReader(
        group=ConsumerGroup(client, reader, lease_seconds=lease_seconds, block_ms=block_ms),
        rejected=rejected_stream(runtime),
        ledger=runtime.ledger,
        admission=runtime.admission,
        accounts=runtime.settings.accounts,
        lease_seconds=lease_seconds,
        stop=runtime.stopping,
    )
