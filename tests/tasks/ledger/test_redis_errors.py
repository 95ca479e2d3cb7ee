"""Errors of Redis are of two kinds: outages, which pass, and alarms, which last until somebody mends something."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from tasks.ledger.keys import PREFIX
from tasks.ledger.redis import RedisTrouble, error_code, is_outage
from tasks.ledger.script_loader import load_script

ALARMS: dict[str, Callable[[redis.Redis], object]] = {
    "WRONGTYPE": lambda client: client.lpush("a hash", "x"),
    "NoScriptError": lambda client: client.evalsha("0" * 40, 0),
    "ResponseError": lambda client: client.eval("return 1 + nil", 0),
    "NoPermissionError": lambda client: as_user(client, "watcher", "right").get("a hash"),
    "AuthenticationError": lambda client: as_user(client, "watcher", "wrong").ping(),
}
OUTAGES: dict[str, Callable[[redis.Redis], object]] = {
    "OutOfMemoryError": lambda client: with_setting(client, "maxmemory", "1", "0"),
    "NOREPLICAS": lambda client: with_setting(client, "min-replicas-to-write", "1", "0"),
    "ConnectionError": lambda client: redis.Redis(port=1, retry=Retry(NoBackoff(), 0)).ping(),
}


def as_user(client: redis.Redis, name: str, password: str) -> redis.Redis:
    client.acl_setuser(name, enabled=True, passwords=["+right"], commands=["+ping"])
    where = client.connection_pool.connection_kwargs
    return redis.Redis(where["host"], where["port"], username=name, password=password, retry=Retry(NoBackoff(), 0))


def with_setting(client: redis.Redis, name: str, value: str, before: str) -> object:
    client.config_set(name, value)
    try:
        return client.set("anything", "x")
    finally:
        client.config_set(name, before)


def raised(act: Callable[[redis.Redis], object], client: redis.Redis) -> redis.RedisError:
    client.hset("a hash", "field", "Anna Meier")
    with pytest.raises(redis.RedisError) as caught:
        act(client)
    return caught.value


@pytest.mark.parametrize("code", ALARMS)
def test_an_error_that_lasts_is_an_alarm(valkey: redis.Redis, code: str) -> None:
    error = raised(ALARMS[code], valkey)
    assert (is_outage(error), error_code(error)) == (False, code)


@pytest.mark.parametrize("code", OUTAGES)
def test_an_error_that_passes_is_an_outage(valkey: redis.Redis, code: str) -> None:
    error = raised(OUTAGES[code], valkey)
    assert (is_outage(error), error_code(error)) == (True, code)


def test_the_broker_wraps_both_kinds(valkey: redis.Redis) -> None:
    wrong = OperationalError("as kombu raises it")
    wrong.__cause__ = raised(ALARMS["WRONGTYPE"], valkey)
    assert not is_outage(wrong)
    assert error_code(wrong) == "WRONGTYPE"
    with Connection("redis://127.0.0.1:1/0") as away, pytest.raises(OperationalError) as outage:
        away.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    assert is_outage(outage.value)


def test_a_failing_command_of_a_pipeline_or_script_tells_no_argument(valkey: redis.Redis) -> None:
    pipe = valkey.pipeline(transaction=False)
    pipe.hset("a hash", "field", "x")
    pipe.lpush("a hash", "ANNA MEIER")
    with pytest.raises(redis.ResponseError) as caught:
        pipe.execute()
    assert error_code(caught.value) == "WRONGTYPE"
    with capture_logs() as logs:
        trouble = RedisTrouble(part="test")
        trouble.note(caught.value)
        trouble.note(caught.value)
        trouble.end()
    assert [line["event"] for line in logs] == ["redis_command_failed", "redis_back"]
    assert "ANNA" not in str(logs)


def test_a_refused_write_in_a_script_over_all_lanes_is_an_outage(valkey: redis.Redis) -> None:
    """Not a lane that is skipped: nothing is wrong with the lane."""
    take_due = load_script(valkey, "take_due")
    valkey.config_set("min-replicas-to-write", "1")
    try:
        with pytest.raises(redis.ResponseError) as caught:
            take_due(
                args=[
                    PREFIX,
                    1000,
                    8,
                    "queue",
                    '[{"lane":"north","slots":1,"has_breaker":true,"group":"g"}]',
                    "",
                    "",
                    0,
                    "b",
                    0,
                ]
            )
    finally:
        valkey.config_set("min-replicas-to-write", "0")
    assert is_outage(caught.value)
