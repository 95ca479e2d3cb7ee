"""A Redis that would lose documents is reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tasks.dispatch.housekeeping import Housekeeping
from tests.harness.clocks import HOUR, FakedClock, needs_faked_clock
from tests.harness.valkey import running_valkey, valkey_with_clock
from tests.harness.waiting import wait_until
from worker.cli.commands.check.redis import check_default_user, check_redis


def passed(client: redis.Redis) -> dict[str, bool]:
    return {result.check: result.ok for result in check_redis(client)}


def test_a_redis_that_would_forget_or_evict_is_found(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        assert all(passed(client).values())
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert passed(client) == {"redis": True, "persistence": False, "memory": False, "clock": True}


@needs_faked_clock
def test_a_clock_of_redis_that_was_set_while_work_was_open_is_told(tmp_path: Path) -> None:
    clock = FakedClock(tmp_path)
    with valkey_with_clock(tmp_path / "valkey", clock) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        housekeeping = Housekeeping(client, lanes=[], jobs_days=30, longest_wait_seconds=HOUR)
        housekeeping.run()
        assert clock_lines(client) == [(True, "It agrees with that of Redis.")]
        clock.set(HOUR)
        housekeeping.run()
        wrong, told = clock_lines(client)
        assert wrong == (False, "This machine's clock and that of Redis differ by 3600 s: set both by NTP.")
        assert told[0]
        assert told[1].startswith("Redis's clock was set by +3600 s while work was open (")
        assert "which is now 3600 s behind Redis's" in told[1]
        clock.set(0)
        housekeeping.run()
        assert clock_lines(client) == [(True, "It agrees with that of Redis.")]


def clock_lines(client: redis.Redis) -> list[tuple[bool, str]]:
    return [(result.ok, result.message) for result in check_redis(client) if result.check == "clock"]


def test_a_default_user_that_may_not_replay_the_file_is_found(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        affected = {"valkey_version": "8.1.8"}
        assert not list(check_default_user(client, affected))
        everything = {"keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
        client.acl_setuser("app", enabled=True, passwords=["+x"], **everything)  # type: ignore[arg-type]
        app = redis.Redis.from_url(
            url.replace("redis://default:", "redis://app:").replace(urlsplit(url).password or "", "x")
        )
        client.acl_setuser("default", enabled=False, reset_keys=True, categories=["-@all"])
        assert [result.ok for result in check_default_user(app, affected)] == [False]
        assert not list(check_default_user(app, {"valkey_version": "9.1.2"}))
        app.acl_setuser("default", enabled=False, **everything)  # type: ignore[arg-type]
        assert not list(check_default_user(app, affected))


def test_a_redis_that_cannot_write_to_its_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        client.config_set("save", "3600 1")
        shutil.rmtree(tmp_path / "valkey")  # no snapshot can be saved there any more
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot fails")
        (fault,) = [result for result in check_redis(client) if result.check == "redis" and not result.ok]
        assert "MISCONF" in fault.message
        assert "make room on that disk" in fault.message
        assert "redis.url" not in fault.message


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda client: client.config_set("maxmemory", "1"), "memory is full"),
        (lambda client: client.replicaof("127.0.0.1", "1"), "is a replica"),
    ],
)
def test_a_redis_that_answers_and_takes_no_writes_is_a_fault(
    tmp_path: Path, spoil: Callable[[redis.Redis], object], says: str
) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        spoil(client)
        (fault,) = [result for result in check_redis(client) if result.check == "redis" and not result.ok]
        assert says in fault.message
