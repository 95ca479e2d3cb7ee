"""The table that finds a provider by the kind that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from config.accounts import Account
from tasks.model.job import Assurance
from tasks.providers.base import Provider
from tasks.providers.cliniko.client import Cliniko
from tasks.providers.connection import Connection
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
        connection: Connection,
    ) -> Provider: ...


KINDS: Mapping[str, Kind] = {
    PracSuite.kind: PracSuite,
    Cliniko.kind: Cliniko,
    Ovok.kind: Ovok,
    Redox.kind: Redox,
    Nhn.kind: Nhn,
}


def build(name: str, account: Account, connection: Connection) -> Provider:
    """The provider of the account that the settings call `name`."""
    return KINDS[account.provider](name, account, connection)


def assurance_of(kind: str) -> Assurance:
    """What `delivered` rests on at providers of this kind."""
    return KINDS[kind].assurance
