"""Whether this process may use the ledger that it finds in Redis: the same `secret_key`, and no newer schema.

Two keys without an expiry mark a ledger. `chartpost:seal-check` is a digest under the `secret_key` of whoever wrote
first; `chartpost:schema` is the number of the rows' form. They are written by the first process that writes anything,
and read again about once a second, or before the next write where that comes later: a wipe takes them away, and a
failover may lead to another Redis altogether.

The schema belongs to the whole ledger, not to a row: a job has entries in many keys, which must fit together. A version
that knows a higher one raises it at its start, and from then on every earlier version leaves the ledger alone within
seconds, wherever it runs. `chartpost:schema-version` names the version that raised it, for the sentence that the
earlier ones say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import redis

from config.version import own_version, written_by_newer
from tasks.ledger import keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal, SealBroken

SCHEMA = 2
"""Raise it when a row gets a stage, a step or a meaning that an earlier version would misread.

1: what is sealed of a job lies in its row. 2: in keys of its own. Absent: a version before the marks wrote the ledger,
whose rows are as those of schema 1.
"""


IS_CLUSTER = (
    "This Redis is a cluster, which Celery's transport does not support: let redis.url name one server (docs/redis.md)."
)
JUST_MARKED = "Another process has marked this Redis at this moment: start this one again."
OTHER_KEY = (
    "What this Redis holds was sealed under another secret_key: use the secret_key that the other processes have, or "
    'another Redis. If that key is lost, see "The secret key is lost" in docs/operations.md.'
)

_CONFIRM_SECONDS = 1.0
_ROWS_TRIED = 20


class LedgerRefused(Exception):
    """This process must not use this Redis. The message is for the operator, and says what to do."""


class LedgerIdentity:
    """Thread-safe. A process keeps one for each connection to Redis."""

    def __init__(
        self, client: redis.Redis, seal: Seal, *, schema: int = SCHEMA, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = client
        self._seal = seal
        # A digest, not a sealed text: the script compares it, so the first of two processes wins and no other.
        self._mark = seal.lookup("seal-check")
        self._schema = schema
        self._clock = clock
        self._adopt = load_script(client, "adopt")
        self._confirmed_before = False
        self._confirm_at = float("-inf")

    def confirm(self) -> None:
        """Call it before anything is written. Asks Redis at most once a second.

        Raises LedgerRefused, and Redis's errors.
        """
        if self._clock() < self._confirm_at:
            return
        if not (self._confirmed_before and self._marks_are_ours()):
            self.examine()
            if self._adopt(args=[PREFIX, self._mark, self._schema, own_version()]) != ["ok"]:
                self.examine()  # another process was faster: its marks tell why this one must not use the ledger
                raise LedgerRefused(JUST_MARKED)
        self._confirmed_before = True
        self._confirm_at = self._clock() + _CONFIRM_SECONDS

    def examine(self) -> None:
        """Read the marks and write nothing, for a command that only asks. Raises as `confirm` does."""
        if is_cluster(self._redis):
            raise LedgerRefused(IS_CLUSTER)
        seal_check, schema, version = self._redis.mget(keys.SEAL_CHECK, keys.SCHEMA, keys.SCHEMA_VERSION)
        if schema is not None and int(schema) > self._schema:
            raise LedgerRefused(written_by_newer("What this Redis holds", int(schema), self._schema, version))
        if seal_check is None:
            self._open_a_row()
        elif seal_check != self._mark:
            raise LedgerRefused(OTHER_KEY)

    def _marks_are_ours(self) -> bool:
        return bool(self._redis.mget(keys.SEAL_CHECK, keys.SCHEMA) == [self._mark, str(self._schema)])

    def _open_a_row(self) -> None:
        """A version before this one left no marks: one of its rows must open."""
        for job_id in self._redis.zrevrange(keys.JOBS, 0, _ROWS_TRIED - 1):
            in_row = self._redis.hget(keys.job(str(job_id)), "document")
            document = in_row or self._redis.get(keys.sealed("document", str(job_id)))
            if document is None:  # expired
                continue
            try:
                self._seal.open(str(document), place=f"{job_id!s}:document")
            except SealBroken as error:
                raise LedgerRefused(OTHER_KEY) from error
            return


def is_cluster(client: redis.Redis) -> bool:
    """False also where INFO is not allowed, as on some hosted servers: theirs are found out by their errors."""
    with suppress(redis.ResponseError):
        # int: without an answer of this section, redis-py gives an empty dict.
        return bool(int(client.info("cluster").get("cluster_enabled", 0)))
    return False


def evicts(client: redis.Redis) -> str | None:
    """The eviction policy by which a full Redis would drop our keys; None if it drops none, or does not say."""
    with suppress(redis.ResponseError):
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
        return None if policy == "noeviction" else policy
    return None
