"""The consumer group on an intake stream: new messages, those of readers that died, and acknowledgements.

https://redis.io/docs/latest/develop/data-types/streams/#consumer-groups
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from config.late_log import LateLog
from tasks.ledger.script_loader import load_script
from tasks.model.times import steady_seconds
from worker.stream.messages import IntakeStream, Message

log = LateLog(__name__)

GROUP = "chartpost"

# A stranger's entry may be as large as Redis takes one (`proto-max-bulk-len`), and all come at once. So new ones are
# read together until they have this many bytes, and those that nobody has measured are few.
_MOST = 100
_MOST_BYTES = 256 * 1024
_FEW = 4
_MANY = 1000
_FORGET_READERS_MS = 3_600_000  # each start of a reader adds a name, and a kill leaves it


class ConsumerGroup:
    """One reader's view of the group. Every method raises Redis's errors.

    `client` must not decode answers: messages come from other programs, and need not be UTF-8.
    """

    def __init__(
        self, client: redis.Redis, stream: IntakeStream, reader: str, *, lease_seconds: float, block_ms: int
    ) -> None:
        self.stream = stream
        self.reader = reader
        self._redis = client
        self._lease_ms = int(lease_seconds * 1000)
        self._block_ms = block_ms
        self._pending_since: dict[tuple[bytes, bytes, int], float] = {}
        self._read_new = load_script(client, "read_new", "worker.stream")
        self._forget_readers = load_script(client, "forget_readers", "worker.stream")

    def create(self) -> None:
        """Create the group and the stream; a group that is there stays as it is."""
        try:
            # From the stream's beginning: a message that still stands there has no job yet.
            self._redis.xgroup_create(self.stream.key, GROUP, id="0", mkstream=True)
            log.info("intake_group_created", stream=self.stream.key)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def new(self) -> list[Message]:
        """New messages, waiting a moment for the first."""
        # A script cannot wait, so one message is awaited, and those that stand behind it are read by the script.
        answer: Any = self._redis.xreadgroup(GROUP, self.reader, {self.stream.key: ">"}, count=1, block=self._block_ms)
        messages = [Message.of(self.stream, entry_id, fields) for _, entries in answer for entry_id, fields in entries]
        if messages:
            more: Any = self._read_new(args=[self.stream.key, GROUP, self.reader, _MOST - 1, _MOST_BYTES])
            for entry_id, flat in more:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                messages.append(Message.of(self.stream, entry_id, fields))
        return messages

    def stale(self) -> Iterator[list[Message]]:
        """Take over messages that were given to a reader, this one or another, and not acknowledged for a lease.

        A few at a time.
        """
        start: Any = "0-0"
        while True:
            answer: Any = self._redis.xautoclaim(self.stream.key, GROUP, self.reader, self._lease_ms, start, count=_FEW)
            start, entries = answer[0], answer[1]  # the third value lists entries that were deleted meanwhile
            yield self._given_before(entries)
            if start == b"0-0":
                break
        yield from self._forgotten()

    def _forgotten(self) -> Iterator[list[Message]]:
        """As `stale`, by our own clock: Redis's may have been set back since they were given, and would say so late."""
        now, before = steady_seconds(), self._pending_since
        listed: Any = self._redis.xpending_range(self.stream.key, GROUP, "-", "+", count=_MANY)
        given = [(entry["message_id"], entry["consumer"], entry["times_delivered"]) for entry in listed]
        self._pending_since = {each: before.get(each, now) for each in given}
        stale: list[Any] = [
            each[0] for each, since in self._pending_since.items() if now - since >= self._lease_ms / 1000
        ]
        for few in (stale[at : at + _FEW] for at in range(0, len(stale), _FEW)):
            entries: Any = self._redis.xclaim(self.stream.key, GROUP, self.reader, 0, few)
            yield self._given_before(entries)

    def _given_before(self, entries: Any) -> list[Message]:
        return [Message.of(self.stream, entry_id, fields, given_before=True) for entry_id, fields in entries]

    def remove(self, *messages: Message) -> None:
        """Acknowledge messages whose jobs are in the ledger, and delete them from the stream."""
        entries = [message.entry_id for message in messages]
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream.key, GROUP, *entries)
            pipe.xdel(self.stream.key, *entries)
            pipe.execute()

    def forget_idle_readers(self) -> None:
        self._forget_readers(args=[self.stream.key, GROUP, _FORGET_READERS_MS, ""])

    def leave(self) -> None:
        """Leave the group, unless this reader still holds messages: another must find them under its name."""
        self._forget_readers(args=[self.stream.key, GROUP, _FORGET_READERS_MS, self.reader])
