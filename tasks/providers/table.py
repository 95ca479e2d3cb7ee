"""The providers: one file each, and the table that finds them by the kind that settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from config.accounts import Account
from tasks.http.clients import Clients
from tasks.model.job import Assurance
from tasks.providers.base import Cache, Provider
from tasks.providers.cliniko.client import Cliniko
from tasks.providers.nhn.client import Nhn
from tasks.providers.ovok.client import Ovok
from tasks.providers.pracsuite import PracSuite
from tasks.providers.redox.client import Redox


class Kind(Protocol):
    """A provider's class."""

    assurance: Assurance

    def __call__(
        self,
        name: str,
        account: Any,  # each kind has settings of its own
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> Provider: ...


KINDS: Mapping[str, Kind] = {
    PracSuite.kind: PracSuite,
    Cliniko.kind: Cliniko,
    Ovok.kind: Ovok,
    Redox.kind: Redox,
    Nhn.kind: Nhn,
}


def build(
    name: str,
    account: Account,
    *,
    clients: Clients,
    limiter: Callable[[], None],
    on_call: Callable[[], None],
    cache: Cache,
) -> Provider:
    """The provider of an account. `limiter` raises RetryLater when no call is free; `on_call` counts calls."""
    kind = KINDS[account.provider]
    return kind(name, account, clients=clients, limiter=limiter, on_call=on_call, cache=cache)


def assurance_of(kind: str) -> Assurance:
    """What `delivered` rests on at providers of this kind."""
    return KINDS[kind].assurance
