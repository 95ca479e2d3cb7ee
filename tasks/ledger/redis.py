"""TODO"""

from __future__ import annotations

from importlib import resources

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

PREFIX = "chartpost:"
CLOSING = "~closing"
"""The lane of closing work, which no sick account holds up."""
WRITABLE = PREFIX + "writable"
"""Written, for a moment, to see whether Redis takes writes."""
AWAY = (redis.RedisError, OperationalError)
"""Redis cannot be reached, or will not take what we write: as the ledger, or as Celery's broker."""
REFUSES = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.MasterDownError)
"""Redis answers, but takes no writes now; the same write will do later."""
GONE = (redis.ConnectionError, redis.TimeoutError, OperationalError, *REFUSES)
"""Of AWAY what passes by itself, whoever asks and whatever is asked."""


def connect(url: str) -> redis.Redis:
    """A Redis client with bounds on every wait. Thread-safe; make it after any fork.

    It repeats nothing by itself, so that no script runs twice behind our back: a script whose answer is lost may have
    run. What then follows, for each (all times are leases or bounded waits, never a lost or a doubled document):

    - open, renew, reserve, mend: the same again when repeated, for the same id, token or holder.
    - start: nobody knows the token that it gave, so the lease runs out and the step is sent again.
    - feed: what it took was never sent, and is due again after a lease (after five, while older messages wait).
    - move: guarded by stage and token, so that a repetition is refused. The next step stands in the row with a due
      entry, from which a feeder sends it. A commit counts as passed though the last block was held back: its job looks
      first. Counters and events change in the same script as the guard, so once.
    - unwell, probe: a failure counted twice would only call a dead account down sooner; a lost probe comes again
      after its interval.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=25,
        client_name="chartpost",
        retry=Retry(NoBackoff(), 0),
    )


def load_script(client: redis.Redis, name: str) -> Script:
    """Register `scripts/<name>.lua`; its first lines say what it takes and returns."""
    return client.register_script(resources.files("tasks.ledger").joinpath("scripts", f"{name}.lua").read_text())
