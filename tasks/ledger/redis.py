"""The connection to Redis: its client, its errors and the names that several rooms share."""

from __future__ import annotations

from importlib import resources

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

PREFIX = "chartpost:"
CLOSING_LANE = "~closing"  # ~ cannot begin an account's name, so no account's lane is called so
"""The lane of closing work. It belongs to no account, so an open circuit never stops it."""
WRITE_TEST_KEY = PREFIX + "writable"
"""Set for a moment to find out whether Redis accepts writes."""

# Redis is the ledger and Celery's broker at once. As the ledger it raises redis-py's errors; as the broker, kombu's.
REDIS_ERRORS = (redis.RedisError, OperationalError)
"""Redis cannot be reached, or refuses a command."""
WRITES_REFUSED = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.MasterDownError)
"""Redis answers and refuses every write for now: a replica, a full memory, a primary that is down."""
REDIS_OUTAGES = (redis.ConnectionError, redis.TimeoutError, OperationalError, *WRITES_REFUSED)
"""Those of REDIS_ERRORS that pass without a change to the command, so that repeating it helps."""


def connect(url: str) -> redis.Redis:
    """A Redis client with a bound on every wait. Thread-safe. Make it after a fork, never before."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=25,
        client_name="chartpost",
        # No automatic retries. A script whose answer is lost may have run, so its caller must know about the loss.
        # What a lost answer leads to is bounded for each script, and never a lost or a doubled document:
        # - open, renew, reserve_name, check_job: repeating them has the same result for the same id, token or holder.
        # - start: its token is lost, so no worker holds the lease. It runs out, and the step is sent again.
        # - take_due: the jobs that it took are not sent. They are due again after one lease, or after five while older
        #   messages wait in the queue.
        # - move: the repetition is refused by stage and token. The next step is in the row and has a due entry, from
        #   which a feeder sends it. A commit may count although the last block was held back: that job searches first.
        #   Counters and events change in the same script as the stage, so once.
        # - take_call: a request may count twice. throttle, open_gate: repeating them has the same result. take_lock:
        #   the lock stays for its time, and whoever waits for it goes on without it.
        # - open_circuit: a failure that counts twice opens the circuit sooner. take_probe: a lost probe is due again
        #   after its interval.
        retry=Retry(NoBackoff(), 0),
    )


def load_script(client: redis.Redis, name: str, room: str = "tasks.ledger") -> Script:
    """Register `scripts/<name>.lua` of a room. The script's header lists its arguments and what it returns.

    The ledger's clock (`clock.lua`) stands before it.
    """
    return client.register_script(_source("clock") + _source(name, room))


def due_key(lane: str, machine: str | None = None) -> str:
    """The key of a lane's due entries: those that any machine can work on, or those of one machine."""
    return f"{PREFIX}due:{lane}@{machine}" if machine else f"{PREFIX}due:{lane}"


def _source(name: str, room: str = "tasks.ledger") -> str:
    return resources.files(room).joinpath("scripts", f"{name}.lua").read_text()
