"""`chartpost check`: Redis answers, keeps its data over a restart, and agrees with this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import redis

from tasks.ledger import keys
from tasks.ledger.clock import LedgerClock
from tasks.ledger.identity import LedgerIdentity, LedgerRefused
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.times import iso
from worker.cli.commands.check.result import CheckResult, failed, passed
from worker.cli.errors import REDIS_AWAY, refusal

_CLOCK_SECONDS = 5.0  # leases and due times are Redis's, tokens and signatures rest on this machine's clock
_OLDEST_REDIS = 7
_OLDEST_VALKEY_THAT_REPLAYS = (9, 1, 2)


def check_redis(client: redis.Redis, *, ours: bool = True) -> Iterator[CheckResult]:
    """With `ours` false, this installation must not use this Redis, and the ledger's clock is not read: that writes."""
    try:
        client.ping()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        yield failed("redis", f"{REDIS_AWAY} ({error})")
        return
    except redis.RedisError as error:
        yield failed("redis", refusal(error))
        return
    writable = True
    try:
        client.set(keys.WRITE_TEST, "1", px=1)
    except redis.RedisError as error:  # it answers, and takes no writes
        writable = False
        yield failed("redis", refusal(error))
    try:
        info: dict[str, Any] = {**client.info("server"), **client.info("persistence"), **client.info("memory")}
    except redis.ResponseError as error:  # hosted servers may not allow INFO
        yield passed("redis", f"It answers; how it is set up cannot be examined ({error}).")
    else:
        yield _check_version(info)
        yield _check_persistence(info)
        yield _check_memory(info)
        if info.get("aof_enabled"):
            yield from check_default_user(client, info)
    yield _check_clock(client)
    if writable and ours:
        yield from _set_clock(client)


def check_identity(identity: LedgerIdentity) -> Iterator[CheckResult]:
    """One result if this installation must not use this Redis; none while Redis is away, or if all is well."""
    with suppress(*REDIS_ERRORS):
        try:
            identity.examine()
        except LedgerRefused as refused:
            yield failed("redis", str(refused))


def _check_version(info: Mapping[str, Any]) -> CheckResult:
    # Valkey says its own version, and beside it the version of Redis that it is compatible with.
    valkey_version, redis_version = info.get("valkey_version"), str(info.get("redis_version"))
    name = f"Valkey {valkey_version}" if valkey_version else f"Redis {redis_version}"
    if int(redis_version.partition(".")[0]) < _OLDEST_REDIS:
        return failed("redis", f"{name} is too old: use Redis 7, Valkey 8, or later.")
    return passed("redis", f"{name} answers.")


def _check_persistence(info: Mapping[str, Any]) -> CheckResult:
    # The inbox's documents survive on disk; those of the stream and of Celery callers are known to Redis alone.
    if not info.get("aof_enabled"):
        message = "A restart would lose jobs of the stream and of Celery callers: set appendonly yes."
        return failed("persistence", message)
    if info.get("aof_last_write_status", "ok") != "ok":
        return failed("persistence", "It cannot write its append-only file: examine its disk.")
    return passed("persistence", "It keeps an append-only file.")


def _check_memory(info: Mapping[str, Any]) -> CheckResult:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return failed(
            "memory", f"maxmemory-policy is {policy}: when memory is full, jobs would vanish. Set it to noeviction."
        )
    return passed("memory", "It evicts nothing.")


def check_default_user(client: redis.Redis, info: Mapping[str, Any]) -> Iterator[CheckResult]:
    """The append-only file is replayed as the user `default`: what that user may not do is lost at a restart.

    Known of redis (redis#14541) and valkey (valkey#3983); corrected in Valkey 9.1.2.
    """
    version = str(info.get("valkey_version") or "0")
    if tuple(int(part) for part in version.split(".") if part.isdecimal()) >= _OLDEST_VALKEY_THAT_REPLAYS:
        return
    try:
        user: Any = client.acl_getuser("default")
    except redis.ResponseError:  # the user of redis.url may not ask
        return
    if user and not ("~*" in user["keys"] and "+@all" in user["categories"]):
        message = (
            "The user `default` may not do everything, so a restart silently drops transactions and scripts from the "
            "append-only file: set `user default off ~* &* +@all`. Nobody can log in as a user that is off."
        )
        yield failed("persistence", message)


def _check_clock(client: redis.Redis) -> CheckResult:
    before = time.time()
    seconds, micros = client.time()
    # The answer is as old as half of the round trip.
    difference = abs((before + time.time()) / 2 - (seconds + micros / 1_000_000))
    if difference > _CLOCK_SECONDS:
        return failed("clock", f"This machine's clock and that of Redis differ by {difference:.0f} s: set both by NTP.")
    return passed("clock", "It agrees with that of Redis.")


def _set_clock(client: redis.Redis) -> Iterator[CheckResult]:
    """Whether Redis's clock was set while workers ran, and is not back where it was."""
    clock = LedgerClock(client)
    last_set, ahead_seconds = clock.last_set(), clock.read().ahead_ms / 1000
    if last_set and abs(ahead_seconds) > _CLOCK_SECONDS:
        at, by_ms = last_set
        message = (
            f"Redis's clock was set by {by_ms / 1000:+.0f} s while work was open ({iso(at)} by that clock). The ledger "
            f"goes on by its own clock, which is now {abs(ahead_seconds):.0f} s "
            f"{'ahead of' if ahead_seconds > 0 else 'behind'} Redis's: no lease and no budget has changed."
        )
        yield passed("clock", message)
