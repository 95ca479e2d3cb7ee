"""The table that finds a provider by the kind that the settings name.

A provider's module is imported when the first account of its kind is built: most installations have one or two kinds,
and lists of jobs need none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from config.accounts import Account
from tasks.model.job import Assurance

if TYPE_CHECKING:  # they import httpx
    from tasks.providers.base import Provider
    from tasks.providers.connection import Connection


@dataclass(frozen=True, slots=True)
class Kind:
    # Where its class is, written `module:class`.
    place: str
    # What `delivered` rests on.
    assurance: Assurance

    def provider(self) -> Any:  # a class whose account is of settings of its own
        """The provider's class: called with an account's name, its settings and a Connection it makes a Provider."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)


KINDS: Mapping[str, Kind] = {
    "pracsuite": Kind("tasks.providers.pracsuite.client:PracSuite", Assurance.CONFIRMED),
    "cliniko": Kind("tasks.providers.cliniko.client:Cliniko", Assurance.CONFIRMED),
    "ovok": Kind("tasks.providers.ovok.client:Ovok", Assurance.CONFIRMED),
    "redox": Kind("tasks.providers.redox.client:Redox", Assurance.ACCEPTED),
    "nhn": Kind("tasks.providers.nhn.client:Nhn", Assurance.CONFIRMED),
    "fhir": Kind("tasks.providers.fhir_server.client:FhirServer", Assurance.CONFIRMED),
}


def build(name: str, account: Account, connection: Connection) -> Provider:
    """The provider of the account that the settings call `name`."""
    made: Provider = KINDS[account.provider].provider()(name, account, connection)
    return made


def assurance_of(kind: str) -> Assurance:
    """What `delivered` rests on at providers of this kind."""
    return KINDS[kind].assurance
