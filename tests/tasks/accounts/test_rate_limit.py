"""A limit group's calls: the pages of long lists get a share of them, and stop nobody else."""

from __future__ import annotations

import pytest
import redis

from tasks.accounts.rate_limit import RateLimit
from tasks.model.errors import RetryLater


def test_pages_of_long_lists_get_half_of_the_limit_and_the_group_goes_on(valkey: redis.Redis) -> None:
    limit = RateLimit(valkey)
    for _ in range(10):
        limit.take_page("a", 20)
    with pytest.raises(RetryLater) as later:
        limit.take_page("a", 20)
    assert later.value.after_seconds
    assert 0 < later.value.after_seconds <= 61
    assert limit.throttled_until("a") is None
    limit.take_call("a", 20)
    limit.take_page("another", 20)


def test_calls_beyond_the_limit_stop_the_group(valkey: redis.Redis) -> None:
    limit = RateLimit(valkey)
    for _ in range(3):
        limit.take_call("a", 3)
    with pytest.raises(RetryLater):
        limit.take_call("a", 3)
    assert limit.throttled_until("a") is not None
    assert limit.throttled_until("another") is None


def test_one_call_a_minute_still_turns_pages(valkey: redis.Redis) -> None:
    RateLimit(valkey).take_page("a", 1)


def counted(valkey: redis.Redis) -> int:
    return valkey.llen("chartpost:calls-of:a")


def test_calls_of_a_high_limit_are_counted_in_handfuls_and_those_that_are_left_lapse(valkey: redis.Redis) -> None:
    now = 0.0
    limit = RateLimit(valkey, lambda: now)
    for _ in range(10):
        limit.take_call("a", 1000)
    assert counted(valkey) == 10, "one part in a hundred, at once"
    limit.take_call("a", 1000)
    assert counted(valkey) == 20
    now = 1.0
    limit.take_call("a", 1000)
    assert counted(valkey) == 30, "what was left was counted a second ago"


def all_calls(limit: RateLimit) -> int:
    """How many calls this process makes until it is refused one."""
    for made in range(1000):
        try:
            limit.take_call("a", 600)
        except RetryLater:
            return made
    return 1000


def test_however_many_processes_there_are_no_more_calls_are_made_than_the_limit_allows(valkey: redis.Redis) -> None:
    made = sum(all_calls(RateLimit(valkey)) for _ in range(3))
    assert made == 600


def test_a_handful_counts_for_a_second_longer_since_it_may_be_used_that_much_later(valkey: redis.Redis) -> None:
    RateLimit(valkey).take_call("a", 600)
    assert 60_000 < valkey.pttl("chartpost:calls-of:a") <= 61_000
