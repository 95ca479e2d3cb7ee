"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

import os
import platform
from functools import partial
from uuid import uuid4

from tasks.ledger.redis import connect
from tasks.runtime import Runtime
from worker.stream.group import ConsumerGroup
from worker.stream.messages import IntakeStream
from worker.stream.reader import StreamReader
from worker.stream.readers import StreamReaders
from worker.stream.rejected import rejected_stream

_BLOCK_MS = 1000  # SIGTERM waits at most this long for a read to return


def stream_readers(runtime: Runtime) -> StreamReaders:
    """One reader for each stream: the shared one, and each producer's own."""
    producers = (None, *runtime.producers.names())
    return StreamReaders([stream_reader(runtime, producer) for producer in producers], runtime.stopping)


def stream_reader(runtime: Runtime, producer: str | None = None, *, block_ms: int = _BLOCK_MS) -> StreamReader:
    """A reader under a name of its own; of the shared stream if no producer is given."""
    lease_seconds = runtime.settings.worker.lease_seconds
    client = connect(runtime.redis_url, decode_responses=False)
    stream = IntakeStream(runtime.seal, producer)
    producers = runtime.producers
    reader = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
    return StreamReader(
        group=ConsumerGroup(client, stream, reader, lease_seconds=lease_seconds, block_ms=block_ms),
        rejected=rejected_stream(runtime),
        ledger=runtime.ledger,
        admission=runtime.admission,
        producer=partial(producers.named, producer) if producer else producers.at_shared_doors,
        accounts=runtime.settings.accounts,
        lease_seconds=lease_seconds,
        stop=runtime.stopping,
    )
