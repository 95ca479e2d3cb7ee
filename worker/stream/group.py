"""The consumer group on the intake stream: new messages, those of readers that died, and acknowledgements.

https://redis.io/docs/latest/develop/data-types/streams/#consumer-groups
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
import structlog

from tasks.ledger.redis import PREFIX, load_script
from tasks.model.times import steady_seconds
from worker.stream.messages import Message

log = structlog.get_logger()

STREAM = PREFIX + "intake"
GROUP = "chartpost"

_BATCH = 32
_MANY = 1000
_FORGET_READERS_MS = 3_600_000  # each start of a reader adds a name, and a kill leaves it


class ConsumerGroup:
    """One reader's view of the group. Every method raises Redis's errors.

    `client` must not decode answers: messages come from other programs, and need not be UTF-8.
    """

    def __init__(self, client: redis.Redis, reader: str, *, lease_seconds: float, block_ms: int) -> None:
        self.reader = reader
        self._redis = client
        self._lease_ms = int(lease_seconds * 1000)
        self._block_ms = block_ms
        self._pending_since: dict[tuple[bytes, bytes, int], float] = {}
        self._forget_readers = load_script(client, "forget_readers", "worker.stream")

    def create(self) -> None:
        """Create the group and the stream; a group that is there stays as it is."""
        try:
            # From the stream's beginning: a message that still stands there has no job yet.
            self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            log.info("intake_group_created")
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def new(self) -> Iterator[Message]:
        """New messages, waiting a moment for the first."""
        answer: Any = self._redis.xreadgroup(GROUP, self.reader, {STREAM: ">"}, count=_BATCH, block=self._block_ms)
        for _, entries in answer:
            yield from (Message.of(entry_id, fields) for entry_id, fields in entries)

    def stale(self) -> Iterator[Message]:
        """Take over messages that were given to a reader, this one or another, and not acknowledged for a lease."""
        start: Any = "0-0"
        while True:
            answer: Any = self._redis.xautoclaim(STREAM, GROUP, self.reader, self._lease_ms, start, count=_BATCH)
            start, entries = answer[0], answer[1]  # the third value lists entries that were deleted meanwhile
            yield from (Message.of(entry_id, fields) for entry_id, fields in entries)
            if start == b"0-0":
                break
        yield from self._forgotten()

    def _forgotten(self) -> Iterator[Message]:
        """As `stale`, by our own clock: Redis's may have been set back since they were given, and would say so late."""
        now, before = steady_seconds(), self._pending_since
        listed: Any = self._redis.xpending_range(STREAM, GROUP, "-", "+", count=_MANY)
        given = [(entry["message_id"], entry["consumer"], entry["times_delivered"]) for entry in listed]
        self._pending_since = {each: before.get(each, now) for each in given}
        stale: list[Any] = [
            each[0] for each, since in self._pending_since.items() if now - since >= self._lease_ms / 1000
        ]
        if stale:
            entries: Any = self._redis.xclaim(STREAM, GROUP, self.reader, 0, stale)
            yield from (Message.of(entry_id, fields) for entry_id, fields in entries)

    def remove(self, message: Message) -> None:
        """Acknowledge a message whose job is in the ledger, and delete it from the stream."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(STREAM, GROUP, message.entry_id)
            pipe.xdel(STREAM, message.entry_id)
            pipe.execute()

    def forget_idle_readers(self) -> None:
        self._forget_readers(args=[STREAM, GROUP, _FORGET_READERS_MS, ""])

    def leave(self) -> None:
        """Leave the group, unless this reader still holds messages: another must find them under its name."""
        self._forget_readers(args=[STREAM, GROUP, _FORGET_READERS_MS, self.reader])
