"""How often passwords may be tried, and that strangers lock nobody out."""

from __future__ import annotations

import pytest
import redis

from tasks.ledger.seal import Seal
from tests.harness.valkey import everything_in
from worker.web.login_limit import WINDOW_SECONDS, LoginLimit


@pytest.fixture
def limit(valkey: redis.Redis) -> LoginLimit:
    return LoginLimit(valkey, Seal("a secret for tests"))


def tries(limit: LoginLimit, count: int, name: str = "anna", address: str = "192.0.2.1") -> int:
    """How many of so many tries may be looked at."""
    return sum(limit.take(name, address) for _ in range(count))


def test_one_name_from_one_address_has_ten_tries(limit: LoginLimit) -> None:
    assert tries(limit, 15) == 10
    assert limit.take("anna", "192.0.2.2")
    assert limit.take("berta", "192.0.2.1")


def test_one_address_has_fifty_tries_whatever_the_names(limit: LoginLimit) -> None:
    assert sum(limit.take(f"name{number}", "192.0.2.1") for number in range(60)) == 50


def test_one_name_has_two_hundred_tries_wherever_they_come_from(limit: LoginLimit) -> None:
    assert sum(limit.take("anna", f"192.0.2.{number}") for number in range(1, 250)) == 200


def test_an_ipv6_subscriber_has_one_address(limit: LoginLimit) -> None:
    assert sum(limit.take("anna", f"2001:db8:1:2::{number:x}") for number in range(1, 20)) == 10
    assert limit.take("anna", "2001:db8:1:3::1")


def test_strangers_do_not_lock_out_a_person_at_their_usual_place(limit: LoginLimit) -> None:
    assert limit.take("anna", "192.0.2.1")
    limit.forget("anna", "192.0.2.1")
    for number in range(1, 250):
        limit.take("anna", f"198.51.100.{number}")
    assert not limit.take("anna", "203.0.113.1"), "a place that is not known"
    assert limit.take("anna", "192.0.2.1")


def test_right_passwords_do_not_count(limit: LoginLimit) -> None:
    """A whole clinic may come from one address."""
    for number in range(120):
        assert limit.take(f"person{number}", "192.0.2.1")
        limit.forget(f"person{number}", "192.0.2.1")


def test_every_counter_ends_by_itself(limit: LoginLimit, valkey: redis.Redis) -> None:
    limit.take("anna", "192.0.2.1")
    names = list(valkey.scan_iter("chartpost:web-logins:*"))
    assert len(names) == 3
    assert all(0 < valkey.ttl(name) <= WINDOW_SECONDS for name in names)
    valkey.delete(*names)
    limit.forget("anna", "192.0.2.1")  # the window has ended meanwhile
    assert all(valkey.ttl(name) > 0 for name in valkey.scan_iter("chartpost:web-logins:*"))
    assert tries(limit, 15) == 10


def test_redis_learns_neither_names_nor_addresses(limit: LoginLimit, valkey: redis.Redis) -> None:
    limit.take("anna", "192.0.2.1")
    limit.forget("anna", "192.0.2.1")
    everything = everything_in(valkey)
    assert "anna" not in everything
    assert "192.0.2.1" not in everything
