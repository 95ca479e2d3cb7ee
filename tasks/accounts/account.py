"""The configured accounts of this process: each has its settings, its provider and a count of calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from config.accounts import Account as AccountSettings
from config.settings import Settings
from config.types import ProxyAddress
from tasks.accounts.rate_limit import RateLimit
from tasks.http.clients import Client, Clients, Handles
from tasks.http.provider_clock import ProviderClock
from tasks.model.errors import AccountBlocked, PresignAgain, StepError
from tasks.providers.base import Provider
from tasks.providers.connection import Cache, Connection
from tasks.providers.table import build


class Account:
    """One account. Calls are counted per thread, and each step runs in one thread, so that it knows its own calls."""

    def __init__(
        self,
        name: str,
        settings: AccountSettings,
        rate_limit: RateLimit,
        cache: Cache,
        proxy: ProxyAddress | None = None,
        handles: Handles | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.clock = ProviderClock(name)
        self._clients = Clients(settings.ca_bundle, proxy, handles)
        self._count = threading.local()
        connection = Connection(
            clients=self._clients,
            # Called with the first request, when the provider is built: the limit group is its own.
            limiter=lambda: rate_limit.take_call(self.provider.limit_group, settings.requests_per_minute),
            list_limiter=lambda: rate_limit.take_page(self.provider.limit_group, settings.requests_per_minute),
            on_call=self.count_call,
            cache=cache,
            insecure=settings.insecure,
            clock=self.clock,
        )
        self.provider: Provider = build(name, settings, connection)

    def start_counting(self) -> None:
        self._count.calls = 0

    def count_call(self) -> None:
        self._count.calls = self.counted() + 1

    def counted(self) -> int:
        """Calls to the provider and its storage by this thread since `start_counting`."""
        return int(getattr(self._count, "calls", 0))

    def reason(self, error: StepError) -> str:
        """The error for people. Says so if this machine's clock is wrong and may be what the error comes from."""
        by_the_clock = isinstance(error, PresignAgain) or (isinstance(error, AccountBlocked) and error.credentials)
        return f"{error} {self.clock.warning}".strip() if by_the_clock else str(error)

    def storage_client(self) -> Client:
        """This thread's client for uploads: it holds no keys."""
        return self._clients.fresh()


class Accounts(Mapping[str, Account]):
    """Every account of the settings, by name."""

    def __init__(self, settings: Settings, rate_limit: RateLimit, cache: Cache) -> None:
        handles = Handles()
        self._accounts = {
            name: Account(name, account, rate_limit, cache, settings.proxy_of(account), handles)
            for name, account in sorted(settings.accounts.items())
        }

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def __len__(self) -> int:
        return len(self._accounts)
