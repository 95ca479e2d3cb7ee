"""Tokens: sealed in Redis, and renewed by one worker at a time."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from tasks.ledger.cache import SealedCache
from tasks.ledger.seal import Seal
from tasks.model.errors import AccountBlocked
from tasks.providers.auth.tokens import Token, Tokens
from tests.harness.valkey import everything_in


@pytest.fixture
def cache(valkey: redis.Redis) -> SealedCache:
    return SealedCache(valkey, Seal("a secret"))


class Server:
    """Gives one token after the other, slowly."""

    def __init__(self, seconds: float = 300.0, takes: float = 0.0) -> None:
        self.given = 0
        self.last: list[Token | None] = []
        self.at_once = 0
        self.most_at_once = 0
        self.seconds = seconds
        self._takes = takes

    def __call__(self, last: Token | None) -> Token:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self._takes)
        self.given += 1
        self.last.append(last)
        self.at_once -= 1
        return Token(access=f"token-{self.given}", seconds=self.seconds, refresh=f"refresh-{self.given}")


def test_a_token_is_asked_for_once_and_used_by_all(cache: SealedCache) -> None:
    server = Server(takes=0.2)
    seen: list[str] = []

    def work() -> None:
        seen.append(Tokens(cache, "account", server, keep=1000).current())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {"token-1"}
    assert (server.given, server.most_at_once) == (1, 1)


def test_a_refused_token_is_replaced_once_by_all_who_had_it(cache: SealedCache) -> None:
    server = Server()
    first = Tokens(cache, "account", server, keep=1000)
    second = Tokens(cache, "account", server, keep=1000)
    refused = first.current()
    assert [first.replace(refused), second.replace(refused)] == ["token-2", "token-2"]
    assert server.last[1] is not None
    assert server.last[1].refresh == "refresh-1"


def test_a_token_can_be_replaced_without_the_help_of_the_last(cache: SealedCache) -> None:
    server = Server()
    tokens = Tokens(cache, "account", server, keep=1000)
    assert tokens.replace(tokens.current(), forget_last=True) == "token-2"
    assert server.last == [None, None]


def test_a_token_that_is_about_to_expire_is_renewed(cache: SealedCache) -> None:
    server = Server(seconds=0.2)
    tokens = Tokens(cache, "account", server, keep=1000)
    tokens.current()
    time.sleep(0.25)
    assert tokens.current() == "token-2"


def test_a_fresh_token_is_not_the_remembered_one_and_serves_all_from_then_on(cache: SealedCache) -> None:
    server = Server()
    tokens = Tokens(cache, "account", server, keep=1000)
    assert [tokens.current(), tokens.fresh(), tokens.current()] == ["token-1", "token-2", "token-2"]


def test_accounts_do_not_share_tokens(cache: SealedCache) -> None:
    server = Server()
    assert Tokens(cache, "a", server, keep=1000).current() != Tokens(cache, "b", server, keep=1000).current()


def test_what_the_token_server_refuses_comes_out_and_lets_the_next_one_try(cache: SealedCache) -> None:
    def refuse(_: Token | None) -> Token:
        raise AccountBlocked("refused", credentials=True)

    with pytest.raises(AccountBlocked) as blocked:
        Tokens(cache, "account", refuse, keep=1000).current()
    assert blocked.value.never_the_document, "the token server does not see it"
    assert Tokens(cache, "account", Server(), keep=1000).current() == "token-1"


def test_no_token_stands_in_the_clear(cache: SealedCache, valkey: redis.Redis) -> None:
    Tokens(cache, "account", Server(), keep=1000).current()
    assert "token-1" not in everything_in(valkey)
    assert "refresh-1" not in everything_in(valkey)
    assert "account" not in everything_in(valkey)


def test_a_lock_whose_holder_has_died_ends_in_time(cache: SealedCache) -> None:
    dead, began = cache.lock("topic", "key", 0.3), time.monotonic()
    dead.__enter__()
    with cache.lock("topic", "key", 60):
        waited = time.monotonic() - began
    assert 0.29 < waited < 60
    dead.__exit__(None, None, None)


def test_a_lock_that_has_run_out_is_not_taken_from_its_next_holder(cache: SealedCache) -> None:
    slow = cache.lock("topic", "key", 0.1)
    slow.__enter__()
    time.sleep(0.2)
    with cache.lock("topic", "key", 60):
        slow.__exit__(None, None, None)
        began = time.monotonic()
        with cache.lock("topic", "key", 0.3):
            assert time.monotonic() - began >= 0.3
