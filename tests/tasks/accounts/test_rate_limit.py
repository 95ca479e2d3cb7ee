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
