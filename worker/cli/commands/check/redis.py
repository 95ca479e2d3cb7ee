"""Whether Redis answers, keeps what it is given over a restart, and agrees with our clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from worker.cli.commands.check.result import Finding
from worker.cli.errors import AWAY

_CLOCK_SECONDS = 5.0
_OLDEST_REDIS = 7
_FIXED_VALKEY = (9, 1, 2)


def of_redis(client: redis.Redis) -> Iterator[Finding]:
    try:
        client.ping()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        yield Finding("redis", ok=False, message=f"{AWAY} ({error})")
        return
    except redis.RedisError as error:
        yield Finding("redis", ok=False, message=f"Redis refuses us ({error}): correct redis.url.")
        return
    try:
        said: dict[str, Any] = {**client.info("server"), **client.info("persistence"), **client.info("memory")}
    except redis.ResponseError as error:
        yield Finding("redis", ok=True, message=f"It answers; how it is set up cannot be looked at ({error}).")
    else:
        yield _version(said)
        yield _persistence(said)
        yield _memory(said)
        if said.get("aof_enabled"):
            yield from _default_user(client, said)
    yield _clock(client)


def _version(said: Mapping[str, Any]) -> Finding:
    valkey, like_redis = said.get("valkey_version"), str(said.get("redis_version"))
    name = f"Valkey {valkey}" if valkey else f"Redis {like_redis}"
    if int(like_redis.partition(".")[0]) < _OLDEST_REDIS:
        return Finding("redis", ok=False, message=f"{name} is too old: use Redis 7, Valkey 8, or later.")
    return Finding("redis", ok=True, message=f"{name} answers.")


def _persistence(said: Mapping[str, Any]) -> Finding:
    if not said.get("aof_enabled"):
        message = "A restart would lose jobs of the stream and of Celery callers: set appendonly yes."
        return Finding("persistence", ok=False, message=message)
    if said.get("aof_last_write_status", "ok") != "ok":
        return Finding("persistence", ok=False, message="It cannot write its append-only file: look at its disk.")
    return Finding("persistence", ok=True, message="It keeps an append-only file.")


def _memory(said: Mapping[str, Any]) -> Finding:
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}: when memory is full, jobs would vanish. Set it to noeviction."
        return Finding("memory", ok=False, message=message)
    return Finding("memory", ok=True, message="It evicts nothing.")


def _default_user(client: redis.Redis, said: Mapping[str, Any]) -> Iterator[Finding]:
    """The append-only file is replayed as the user `default`: what that user may not do is lost at a restart.

    Known of redis and valkey (redis#14541, valkey#3983); Valkey 9.1.2 has it fixed.
    """
    valkey = str(said.get("valkey_version") or "0")
    if tuple(int(part) for part in valkey.split(".") if part.isdecimal()) >= _FIXED_VALKEY:
        return
    try:
        user: Any = client.acl_getuser("default")
    except redis.ResponseError:
        return
    if not user or ("~*" in user["keys"] and "+@all" in user["categories"]):
        return
    message = (
        "The user `default` may not do everything, so a restart silently drops transactions and scripts from the "
        "append-only file: set `user default off ~* &* +@all`, as whom nobody can log in either."
    )
    yield Finding("persistence", ok=False, message=message)


def _clock(client: redis.Redis) -> Finding:
    before = time.time()
    seconds, micros = client.time()
    apart = abs((before + time.time()) / 2 - (seconds + micros / 1_000_000))
    if apart > _CLOCK_SECONDS:
        message = f"This machine's clock and that of Redis are {apart:.0f} s apart: set both by NTP."
        return Finding("clock", ok=False, message=message)
    return Finding("clock", ok=True, message="It agrees with that of Redis.")
