"""The consumer group on the intake stream: new messages, those of readers that died, and acknowledgements.

https://redis.io/docs/latest/develop/data-types/streams/#consumer-groups
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
import structlog

from tasks.ledger.redis import PREFIX
from worker.stream.messages import Message

log = structlog.get_logger()

STREAM = PREFIX + "intake"
GROUP = "chartpost"

_BATCH = 32
_FORGET_READERS_MS = 3_600_000  # each start of a reader adds a name, and a kill leaves it
_FORGET_READERS = """
-- Removes readers that hold no message from the group: those that have been idle for long, and one by its name.
-- One script, so that no reader can be given a message between the check of what it holds and its removal: the
-- messages of a removed reader would never be claimed.
-- ARGV: stream, group, idle milliseconds, the name of the reader to remove at once (or empty).
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])) do
  local reader = {}
  for i = 1, #flat, 2 do reader[flat[i]] = flat[i + 1] end
  if reader.pending == 0 and (reader.idle > tonumber(ARGV[3]) or reader.name == ARGV[4]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], reader.name)
  end
end
"""


class ConsumerGroup:
    """One reader's view of the group. Every method raises Redis's errors.

    `client` must not decode answers: messages come from other programs, and need not be UTF-8.
    """

    def __init__(self, client: redis.Redis, reader: str, *, lease_seconds: float, block_ms: int) -> None:
        self.reader = reader
        self._redis = client
        self._lease_ms = int(lease_seconds * 1000)
        self._block_ms = block_ms
        self._forget_readers = client.register_script(_FORGET_READERS)

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
            yield from (Message.of(entry, fields) for entry, fields in entries)

    def stale(self) -> Iterator[Message]:
        """Messages that were given to a reader, this one or another, and not acknowledged for a lease."""
        start: Any = "0-0"
        while True:
            answer: Any = self._redis.xautoclaim(STREAM, GROUP, self.reader, self._lease_ms, start, count=_BATCH)
            start, entries = answer[0], answer[1]  # the third value lists entries that were deleted meanwhile
            yield from (Message.of(entry, fields) for entry, fields in entries)
            if start == b"0-0":
                return

    def remove(self, message: Message) -> None:
        """Acknowledge a message whose job is in the ledger, and delete it from the stream."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(STREAM, GROUP, message.entry)
            pipe.xdel(STREAM, message.entry)
            pipe.execute()

    def forget_idle_readers(self) -> None:
        self._forget_readers(args=[STREAM, GROUP, _FORGET_READERS_MS, ""])

    def leave(self) -> None:
        """Leave the group, unless this reader still holds messages: another must find them under its name."""
        self._forget_readers(args=[STREAM, GROUP, _FORGET_READERS_MS, self.reader])
