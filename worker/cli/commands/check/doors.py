"""`chartpost check`: nothing waits in the queue or the stream of a producer that the settings do not name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator

import redis

from config.celery import PRODUCER_QUEUE
from tasks.ledger import keys
from tasks.ledger.key_types import shown
from tasks.ledger.redis import is_outage
from worker.cli.commands.check.result import CheckResult, failed
from worker.stream.rejected import REJECTED

# All keys that may be such a door, and few others: Redis looks at every key's name here.
_PATTERN = "chartpost[.:][fi][rn]*"
_BATCH = 1000
_QUEUE = re.compile(re.escape(PRODUCER_QUEUE) + r"([^\x06]+)(?:\x06\x16[369])?")
_STREAM = re.compile(re.escape(keys.INTAKE) + ":(.+)", re.DOTALL)


def check_doors(client: redis.Redis, producers: Collection[str]) -> Iterator[CheckResult]:
    """A section that was removed, or a queue that was written wrong: nobody reads what is sent there."""
    waiting: Counter[str] = Counter()
    places: dict[str, list[str]] = {}
    for name in sorted({str(key) for key in client.scan_iter(_PATTERN, count=_BATCH)} - {REJECTED}):
        is_queue, is_stream = _QUEUE.fullmatch(name), _STREAM.fullmatch(name)
        door = is_queue or is_stream
        if door is None or door[1] in producers:
            continue
        try:
            count = int(client.llen(name) if is_queue else client.xlen(name))
        except redis.ResponseError as error:
            if is_outage(error):
                raise
            continue  # of another type: nothing of a producer's
        if count:
            waiting[door[1]] += count
            places.setdefault(door[1], []).append(shown(name))
    for producer, count in waiting.items():
        where = " and ".join(places[producer])
        yield failed(
            "intake",
            f"{count} {'message waits' if count == 1 else 'messages wait'} in {where}, and nobody reads there: the "
            f"settings name no producer {producer}. Add [producers.{producer}] until all is read, or delete it (DEL).",
        )
