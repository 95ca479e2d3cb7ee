"""The connection to Redis: its client and its errors."""

from __future__ import annotations

import re

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.late_log import LateLog
from tasks.ledger.thread_connection import ThreadConnectionClient

log = LateLog(__name__)

# Redis is the ledger and Celery's broker at once. As the ledger it raises redis-py's errors; as the broker, kombu's.
REDIS_ERRORS = (redis.RedisError, OperationalError)
"""Redis cannot be reached, or refuses a command. `is_outage` tells the two apart."""
WRITES_REFUSED = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.MasterDownError)
"""Redis answers and refuses every write for now: a replica, a full memory, a primary that is down."""
_OUTAGES = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.TryAgainError, *WRITES_REFUSED)
# How the answers begin that redis-py has no class for, and those inside a transaction or a script.
_OUTAGE_CODES = frozenset(
    ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED")
)
_CODE = re.compile(r"(?:^|caused error: |because of: )-?([A-Z]{2,})(?= |$)")


def is_outage(error: BaseException) -> bool:
    """True for an error that passes without a change to the command: repeating it helps.

    False for one that lasts until somebody mends something: a key of the wrong type, a missing right, a wrong password,
    a script that fails. Such an error is an alarm.
    """
    if isinstance(error, OperationalError):
        cause = error.__cause__ or error.__context__
        return not isinstance(cause, redis.RedisError) or is_outage(cause)
    if isinstance(error, redis.AuthenticationError):  # a ConnectionError to redis-py
        return False
    return isinstance(error, _OUTAGES) or error_code(error) in _OUTAGE_CODES


def error_code(error: BaseException) -> str:
    """How Redis's answer begins, such as WRONGTYPE; else the name of the error's class.

    The rest of the answer may repeat the command's arguments, and so name a patient: it is not to be logged.
    """
    if isinstance(error, OperationalError) and isinstance(error.__cause__, redis.RedisError):
        error = error.__cause__
    codes = _CODE.findall(str(error))
    return codes[-1] if codes else type(error).__name__


def log_redis_error(error: BaseException, **context: object) -> None:
    """Log an outage as a warning, `redis_unreachable`, and an alarm as an error, `redis_command_failed`."""
    if is_outage(error):
        log.warning("redis_unreachable", error=type(error).__name__, **context)
    else:
        log.error("redis_command_failed", error=type(error).__name__, code=error_code(error), **context)


class RedisTrouble:
    """The trouble that one loop has with Redis: logged once while it lasts, and again when it becomes another."""

    def __init__(self, **context: object) -> None:
        self._context = context
        self._logged = ""

    def note(self, error: BaseException) -> None:
        kind = "outage" if is_outage(error) else error_code(error)
        if kind != self._logged:
            log_redis_error(error, **self._context)
        self._logged = kind

    def end(self) -> None:
        """Redis has done what was asked."""
        if self._logged:
            log.info("redis_back")
        self._logged = ""

    @property
    def lasts(self) -> bool:
        return bool(self._logged)


def connect(url: str, *, decode_responses: bool = True) -> redis.Redis:
    """A Redis client with a bound on every wait. Thread-safe. Make it after a fork, never before.

    Without `decode_responses` answers are bytes: what other programs have written need not be UTF-8.
    """
    return ThreadConnectionClient.from_url(
        url,
        decode_responses=decode_responses,
        max_connections=10_000,  # each thread holds one; redis-py's own limit is 100
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
