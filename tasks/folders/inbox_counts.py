"""How much each inbox leaves alone, in Redis: the watcher counts it, and the workers' metrics show it.

chartpost:inbox:<machine>   hash, with a lifetime: `<account>/<reason>` -> how many; the account may be empty
chartpost:inboxes           set of the machines, with a lifetime

No field names a patient, a file or a folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import redis

from tasks.ledger import keys

_LIFETIME_SECONDS = 300
_WATCHED = "watched"  # so that there is a hash even if nothing is left; no account and reason has this name


def publish_inbox_counts(client: redis.Redis, machine: str, counts: Mapping[tuple[str, str], int]) -> None:
    """Say what the inbox of this machine leaves alone now: (account, reason) -> how many. Repeat it within minutes."""
    key = keys.inbox(machine)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        pipeline.hset(key, _WATCHED, "1")
        for (account, reason), count in counts.items():
            pipeline.hset(key, f"{account}/{reason}", str(count))
        pipeline.expire(key, _LIFETIME_SECONDS)
        pipeline.sadd(keys.INBOXES, machine)
        pipeline.expire(keys.INBOXES, _LIFETIME_SECONDS)
        pipeline.execute()


def read_inbox_counts(client: redis.Redis) -> tuple[int, Mapping[tuple[str, str], int]]:
    """How many inboxes are watched, and what all of them together leave alone: (account, reason) -> how many."""
    watched, counts = 0, Counter[tuple[str, str]]()
    for machine in client.smembers(keys.INBOXES):
        fields = client.hgetall(keys.inbox(str(machine)))
        watched += 1 if fields.pop(_WATCHED, None) else 0
        for field, count in fields.items():
            account, _, reason = str(field).partition("/")
            counts[account, reason] += int(count)
    return watched, counts
