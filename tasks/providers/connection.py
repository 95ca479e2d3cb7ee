"""How one account's provider reaches the outside: HTTP clients, rate limit, call counter and cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tasks.http.api import ApiClient, Signer
from tasks.http.clients import Clients
from tasks.http.provider_clock import ProviderClock


class Cache(Protocol):
    """A small sealed cache in Redis, shared by all workers; a miss costs a provider call, never correctness.

    `topic` and `key` may hold patient data: they are stored only as an HMAC, the value sealed.
    """

    def get(self, topic: str, key: str) -> str | None: ...

    def get_with_age(self, topic: str, key: str) -> tuple[str, float] | None:
        """With the seconds since it was put there."""
        ...

    def put(self, topic: str, key: str, value: str, seconds: float) -> None: ...

    def drop(self, topic: str, key: str) -> None: ...

    def lock(self, topic: str, key: str, seconds: float) -> AbstractContextManager[None]:
        """No other thread or worker is in a block of this topic and key, for at most so many seconds.

        Waits that long for its turn, then goes on without it: what is done inside must be harmless when two do it.
        """
        ...

    def lock_if_free(self, topic: str, key: str, seconds: float) -> AbstractContextManager[Callable[[], object] | None]:
        """The same without waiting: None if another is in the block, else a function that holds it for longer."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """What a provider's client is built from, for one account."""

    clients: Clients
    # Called before each call of the API; raises RetryLater when no slot is free.
    limiter: Callable[[], None]
    # Called for every request that is about to leave, to the provider and to its storage.
    on_call: Callable[[], None]
    cache: Cache
    # Called before each page of a list but its first, besides `limiter`; raises RetryLater when lists have had their
    # share of the limit.
    list_limiter: Callable[[], None] = lambda: None
    # Allows http:// and loopback addresses, as the sandbox has them.
    insecure: bool = False
    # Learns the provider's time from its answers.
    clock: ProviderClock = field(default_factory=ProviderClock)

    def api(self, base_url: str, *, provider: str, headers: Mapping[str, str] | Signer) -> ApiClient:
        """A client for the API at `base_url`; `headers` hold its keys, or make them for each request."""
        return ApiClient(
            self.clients,
            base_url,
            provider=provider,
            headers=headers,
            limiter=self.limiter,
            on_call=self.on_call,
            clock=self.clock,
            insecure=self.insecure,
        )
